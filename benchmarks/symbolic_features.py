"""Time the note-level features of the whole corpus on one core: `python benchmarks/symbolic_features.py FOLDER`.

FOLDER has PercePiano's layout. Reading the files is timed apart. The goal is 20 s for 1,202 clips.
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
    seconds = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        table = symbolic_feature_table(played, loaded.clips)
        seconds.append(time.perf_counter() - started)
    per_clip = 1000 * statistics.median(seconds) / len(played)
    print(f"{table['feature'].nunique()} features of {len(played)} clips, one core, {REPEATS} repeats:")
    print(
        f"median {statistics.median(seconds):.1f} s ({min(seconds):.1f}..{max(seconds):.1f}), {per_clip:.1f} ms a clip"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
