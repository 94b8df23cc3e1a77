"""Time the note-level features of the whole corpus on one core: `python -m benchmarks.symbolic_features FOLDER`.

FOLDER has PercePiano's layout. Reading the files is timed apart. The goal is 20 s for 1,202 clips.
On a shared machine the processor time is the one to compare.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import statistics
import sys
import time
from pathlib import Path

from piano_assets.corpus.loading import load_performances
from piano_assets.corpus.performance import performances
from piano_assets.features.symbolic import symbolic_feature_table

REPEATS = 3


def main(folder: Path) -> None:
    started = time.perf_counter()
    loaded = load_performances(folder)
    played = performances(loaded.notes, loaded.controls)
    print(f"reading {len(played)} clips: {time.perf_counter() - started:.1f} s")
    clocks = {"wall": time.perf_counter, "processor": time.process_time}
    seconds: dict[str, list[float]] = {name: [] for name in clocks}
    for _ in range(REPEATS):
        before = {name: clock() for name, clock in clocks.items()}
        table = symbolic_feature_table(played, loaded.clips)
        for name, clock in clocks.items():
            seconds[name].append(clock() - before[name])
    print(f"{table['feature'].nunique()} features of {len(played)} clips, one core, {REPEATS} repeats:")
    for name, s in seconds.items():
        per_clip = 1000 * statistics.median(s) / len(played)
        print(f"{name}: median {statistics.median(s):.1f} s ({min(s):.1f}..{max(s):.1f}), {per_clip:.1f} ms a clip")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
