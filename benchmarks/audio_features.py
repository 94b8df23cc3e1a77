"""Time the 65 audio features against librosa function by function, and both spectrograms over a corpus.

    python -m benchmarks.audio_features                   one core: 10 synthetic clips, ours and the peer in turn
    python -m benchmarks.audio_features --audio FOLDER    the same on 10 of FOLDER's sound files, then all of them on
                                                          two cores

The peer is `piano_assets_tests/features/librosa_peer.py`: the same definitions, each from the samples. The goals are a
ratio of 8, 90 s for the features of a corpus of 5.6 h and 45 s for a spectrogram of it, on two cores. Results go to
`benchmarks/results/audio_features.json`.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import soundfile
from threadpoolctl import threadpool_limits

from benchmarks.environment import environment
from piano_assets.corpus.audio import read_audio
from piano_assets.features.spectrograms import SPECTROGRAMS, write_spectrograms
from piano_assets.features.traditional import traditional_features, traditional_table
from piano_assets_tests.features.librosa_peer import peer_features
from piano_assets_tests.features.tones import RATE, music

RESULT = Path(__file__).parent / "results" / "audio_features.json"
CLIPS, REPEATS = 10, 5


def seconds(function: Callable[[np.ndarray], object], y: np.ndarray) -> float:
    """Processor seconds of this process: on one thread the time it would take on an idle core."""
    started = time.process_time()
    function(y)
    return time.process_time() - started


def one_core(sounds: list[np.ndarray]) -> dict:
    """Median over clips of the median over repeats, ours and the peer in turn on each clip."""
    traditional_features(sounds[0])
    peer_features(sounds[0])
    ours, peer, disagreement = [], [], 0.0
    for y in sounds:
        turns = [(seconds(traditional_features, y), seconds(peer_features, y)) for _ in range(REPEATS)]
        ours.append(statistics.median(t[0] for t in turns))
        peer.append(statistics.median(t[1] for t in turns))
        a, b = traditional_features(y), peer_features(y)
        disagreement = max(disagreement, *(abs(a[k] - b[k]) / max(abs(b[k]), 1e-2) for k in a if np.isfinite(b[k])))
    ratios = [p / o for o, p in zip(ours, peer, strict=True)]
    return {
        "clips": len(sounds),
        "repeats": REPEATS,
        "median_clip_s": round(statistics.median(len(y) / RATE for y in sounds), 1),
        "ours_ms": round(1000 * statistics.median(ours), 1),
        "librosa_ms": round(1000 * statistics.median(peer), 1),
        "ratio": round(statistics.median(ratios), 1),
        "ratio_range": [round(min(ratios), 1), round(max(ratios), 1)],
        "largest_relative_difference": float(f"{disagreement:.2g}"),
    }


def whole_corpus(paths: dict[str, Path]) -> dict:
    """Seconds for all files with two workers, reading them included.

    Beside the wall clock stand processor seconds: half of them is the wall clock of two cores that do nothing else.
    """
    hours = sum(soundfile.info(p).duration for p in paths.values()) / 3600
    found: dict = {"clips": len(paths), "audio_hours": round(hours, 2), "workers": 2}

    def measure(name: str, function: Callable[[], object]) -> None:
        wall, processor = time.perf_counter(), time.process_time()
        function()
        found[name] = {
            "wall_s": round(time.perf_counter() - wall, 1),
            "processor_s": round(time.process_time() - processor, 1),
        }

    measure("audio_features", lambda: traditional_table(paths, Path(), "benchmark"))
    with tempfile.TemporaryDirectory() as folder:
        for name in SPECTROGRAMS:
            measure(name, partial(write_spectrograms, paths, Path(folder), name, "benchmark"))
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--audio", type=Path, help="folder of sound files, searched with its subfolders")
    folder = parser.parse_args().audio
    result: dict = {"environment": environment()}
    if folder is None:
        rng = np.random.default_rng(0)
        with threadpool_limits(1):
            result["one_core"] = one_core([music(rng, s) for s in np.linspace(8, 30, CLIPS)])
    else:
        paths = {p.stem: p.absolute() for p in sorted(folder.rglob("*")) if p.suffix in (".wav", ".flac")}
        chosen = list(paths.values())[:: max(1, len(paths) // CLIPS)][:CLIPS]
        with threadpool_limits(1):
            result["one_core"] = one_core([read_audio(p) for p in chosen])
        result["corpus"] = whole_corpus(paths)
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
