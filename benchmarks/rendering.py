"""Measure the modal piano: speed beside FluidSynth, what a transcriber hears, and brightness beside sampled pianos.

    python -m benchmarks.rendering speed --midi FOLDER          real-time factor on 1 and 2 threads, both renderers
    python -m benchmarks.rendering transcription --midi FOLDER  note-onset F1 of transkun on 20 clips, and on a minute
    python -m benchmarks.rendering brightness                   spectral centroid of single notes over velocity

FOLDER holds MIDI files. Each part replaces its own entry of `benchmarks/results/rendering.json`. The goals: 500 times
real time on two cores, F1 of .95, a velocity-to-brightness slope within the range of sampled pianos. FluidSynth plays
every SoundFont that is installed; transkun and mir_eval come with the extras `transcribe` and `test`.
"""

import argparse
import json
import resource
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np

from benchmarks.environment import environment
from piano_assets.corpus.midi import read_midi
from piano_assets.corpus.performance import Performance
from piano_assets.corpus.rendering.fluidsynth import FOLDERS, render_fluidsynth
from piano_assets.corpus.rendering.modal import render_modal
from piano_assets.corpus.rendering.note_table import note_table
from piano_assets_tests.corpus.playing import RATE, play

RESULT = Path(__file__).parent / "results" / "rendering.json"
REPEATS = 3
KEYS, VELOCITIES = (36, 48, 60, 72, 84), (50, 64, 80, 100, 127)
TOLERANCE_S = 0.05


def renderers() -> dict[str, Callable[[Performance], np.ndarray]]:
    """The modal piano and FluidSynth with each installed SoundFont, once per file."""
    fonts = {f.resolve().name: f.resolve() for folder in FOLDERS for f in folder.glob("*.sf[23]")}
    return {"modal": render_modal} | {n: partial(render_fluidsynth, soundfont=f) for n, f in sorted(fonts.items())}


def factor(render: Callable, clips: list[Performance], threads: int) -> float:
    """Seconds of sound per second of wall clock."""
    started = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        samples = sum(pool.map(lambda clip: len(render(clip)), clips))
    return samples / RATE / (time.perf_counter() - started)


def speed(clips: dict[str, Performance]) -> dict:
    """Real-time factors, threads and renderers in turn; what is done once per process is timed apart."""
    chosen = list(clips.values())[::10]
    found: dict = {"clips": len(chosen), "audio_s": round(sum(c.duration_s + 1 for c in chosen)), "repeats": REPEATS}
    started = time.perf_counter()
    for pitch in sorted({int(p) for c in clips.values() for p in c.pitch}):
        note_table(pitch, RATE)
    found["note_tables_s"] = round(time.perf_counter() - started, 2)
    started = time.perf_counter()
    render_modal(chosen[0])
    found["compilation_s"] = round(time.perf_counter() - started, 2)
    found["peak_memory_mb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    for name, render in renderers().items():
        some = chosen if name == "modal" else chosen[::6]  # the peers take minutes
        render(some[0])
        turns = [(factor(render, some, 1), factor(render, some, 2)) for _ in range(REPEATS)]
        found[name] = {f"times_real_time_{i + 1}": round(statistics.median(t[i] for t in turns)) for i in (0, 1)}
        found[name]["range_2"] = [round(f(t[1] for t in turns)) for f in (min, max)]
    return found


def transcriber() -> Callable[[np.ndarray], np.ndarray]:
    """transkun with the weights of its wheel: samples -> (n_notes, 3) onset_s, pitch, velocity."""
    import moduleconf
    import torch
    import transkun
    from scipy.signal import resample_poly

    folder = Path(transkun.__file__).parent / "pretrained"
    conf = moduleconf.parseFromFile(str(folder / "2.0.conf"))["Model"]
    model = conf.module.TransKun(conf=conf.config)
    weights = torch.load(folder / "2.0.pt", map_location="cpu", weights_only=True)
    model.load_state_dict(weights.get("best_state_dict", weights.get("state_dict")), strict=False)
    model.eval()

    def hear(samples: np.ndarray) -> np.ndarray:
        up = resample_poly(samples, model.fs, RATE).astype(np.float32)
        with torch.no_grad():
            notes = model.transcribe(torch.from_numpy(up[:, None]))
        return np.array([(n.start, n.pitch, n.velocity) for n in notes if n.pitch > 0], np.float64).reshape(-1, 3)

    return hear


def agreement(played: Performance, heard: np.ndarray) -> dict:
    """Onset precision, recall and F1 (mir_eval, 50 ms, onset and pitch), velocity correlation, median lateness."""
    from mir_eval import transcription, util

    def intervals(onset_s: np.ndarray) -> np.ndarray:
        return np.stack([onset_s, onset_s + 0.1], axis=1)

    notes = (
        intervals(played.onset_s),
        util.midi_to_hz(played.pitch.astype(float)),
        intervals(heard[:, 0]),
        util.midi_to_hz(heard[:, 1]),
    )
    options = {"offset_ratio": None, "onset_tolerance": TOLERANCE_S}
    precision, recall, f1, _ = transcription.precision_recall_f1_overlap(*notes, **options)
    pairs = np.array(transcription.match_notes(*notes, **options)).reshape(-1, 2)
    velocity = played.velocity[pairs[:, 0]]
    r = np.corrcoef(velocity, heard[pairs[:, 1], 2])[0, 1] if np.ptp(velocity) else None
    late = np.median(heard[pairs[:, 1], 0] - played.onset_s[pairs[:, 0]])
    found = {"precision": precision, "recall": recall, "f1": f1, "velocity_r": r, "late_s": late}
    return {"notes": played.n_notes, "heard": len(heard)} | {k: v and round(float(v), 4) for k, v in found.items()}


def transcription(clips: dict[str, Performance]) -> dict:
    """20 short human clips through the modal piano, 5 of them through each SoundFont, and one clip of a minute."""
    hear = transcriber()
    human = {n: c for n, c in clips.items() if "_Score" not in n}
    short = sorted(n for n, c in human.items() if 5 < c.duration_s < 9)
    short = [short[i] for i in np.linspace(0, len(short) - 1, 20).astype(int)]
    found: dict = {"tolerance_s": TOLERANCE_S, "transkun": version("transkun"), "mir_eval": version("mir_eval")}
    for name, render in renderers().items():
        each = {n: agreement(clips[n], hear(render(clips[n]))) for n in (short if name == "modal" else short[::4])}
        f1 = [a["f1"] for a in each.values()]
        r = [a["velocity_r"] for a in each.values() if a["velocity_r"] is not None]
        found[name] = {"mean_f1": round(statistics.mean(f1), 4), "lowest_f1": min(f1)}
        found[name] |= {"mean_velocity_r": round(statistics.mean(r), 3), "clips": each}
    minute = min(human, key=lambda n: abs(human[n].duration_s - 60))
    started = time.perf_counter()
    heard = hear(render_modal(human[minute]))
    found["minute"] = {"clip": minute, "duration_s": round(human[minute].duration_s, 1)}
    found["minute"] |= agreement(human[minute], heard) | {"seconds": round(time.perf_counter() - started, 1)}
    return found


def brightness() -> dict:
    """Centroid (Hz, magnitude-weighted, first second, mean over five Cs) per velocity, and its log-log slope."""
    hertz = np.fft.rfftfreq(RATE, 1 / RATE)

    def centroid(samples: np.ndarray) -> float:
        magnitude = np.abs(np.fft.rfft(samples[:RATE] * np.hanning(RATE)))
        return float(hertz @ magnitude / magnitude.sum())

    found = {}
    for name, render in renderers().items():
        means = [np.mean([centroid(render(play([(0.0, 1.0, k, v)]))) for k in KEYS]) for v in VELOCITIES]
        slope = np.log(means[-1] / means[0]) / np.log(VELOCITIES[-1] / VELOCITIES[0])
        level = [np.sqrt(np.mean(render(play([(0.0, 1.0, 60, v)])) ** 2)) for v in (50, 127)]
        found[name] = {
            "centroid_hz": dict(zip(map(str, VELOCITIES), (round(float(m)) for m in means), strict=True)),
            "slope": round(float(slope), 3),
            "level_50_to_127_db": round(float(20 * np.log10(level[1] / level[0])), 1),
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the renderers.")
    parser.add_argument("part", choices=("speed", "transcription", "brightness"))
    parser.add_argument("--midi", type=Path, help="folder of MIDI files")
    arguments = parser.parse_args()
    if arguments.part == "brightness":
        found = brightness()
    elif arguments.midi is None:
        parser.error(f"{arguments.part} needs --midi")
    else:
        clips = {p.stem.strip(): read_midi(p) for p in sorted(arguments.midi.glob("*.mid"))}
        if not clips:
            parser.error(f"--midi {arguments.midi}: no *.mid in this folder")
        found = {"speed": speed, "transcription": transcription}[arguments.part](clips)
    result = json.loads(RESULT.read_text()) if RESULT.is_file() else {}
    result[arguments.part] = {"environment": environment()} | found
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result[arguments.part], indent=2))


if __name__ == "__main__":
    main()
