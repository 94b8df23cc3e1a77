"""A corpus small enough for structure tests: 12 excerpts in 10 clusters, 10 players and a deadpan rendition each."""

from itertools import product

import numpy as np
import pandas as pd

from piano_assets.corpus.names import parse_name
from piano_assets.dimensions import NAMES

BEETHOVEN = ("1", "2", "3", "4", "7", "11", "14", "18", "19", "22", "Score")
SCHUBERT = ("1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "Score")


def names() -> list[str]:
    """Eight variations by Beethoven; three short excerpts by Schubert and a long one that holds the first two."""
    beethoven = [f"Beethoven_WoO80_var{v}_8bars_{p}_{v}" for v, p in product(range(1, 9), BEETHOVEN)]
    schubert = [f"Schubert_D960_mv2_8bars_{p}_{s:02d}" for s, p in product((1, 2, 3), SCHUBERT)]
    return beethoven + schubert + [f"Schubert_D960_mv2_16bars_{p}_01" for p in SCHUBERT]


def clips_and_notes(seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Tables `clips` (with clusters) and `notes`; 40 notes of random melody an excerpt."""
    rng = np.random.default_rng(seed)
    melodies: dict[str, np.ndarray] = {}
    rows, notes = [], []
    for clip in names():
        name = parse_name(clip)
        if name.excerpt not in melodies:
            melodies[name.excerpt] = rng.integers(48, 84, 40)
            if name.bars == 16:
                melodies[name.excerpt] = np.r_[melodies["D960_mv2_8bars_01"], melodies["D960_mv2_8bars_02"]]
        pitch = melodies[name.excerpt]
        onset = np.cumsum(rng.uniform(0.1, 0.4, len(pitch))) * (1.0 if name.player != "Score" else 0.5)
        onset -= onset[0]
        notes.append(
            pd.DataFrame({"clip": clip, "onset_s": onset, "offset_s": onset + 0.2, "pitch": pitch, "velocity": 64})
        )
        rows.append(
            {
                "clip": clip,
                "composer": name.composer,
                "work": name.work,
                "movement": name.movement,
                "bars": name.bars,
                "segment": name.segment,
                "excerpt": name.excerpt,
                "cluster": "D960_mv2_16bars_01" if name.excerpt in SHARED else name.excerpt,
                "player": name.player,
                "performer": name.performer,
                "deadpan": name.deadpan,
                "duration_s": float(onset[-1] + 0.2),
                "n_notes": len(pitch),
                "content_hash": clip,
            }
        )
    return pd.DataFrame(rows), pd.concat(notes, ignore_index=True)


SHARED = ("D960_mv2_16bars_01", "D960_mv2_8bars_01", "D960_mv2_8bars_02")


def ratings_of(clips: pd.DataFrame, n_raters: int = 6, seed: int = 0) -> pd.DataFrame:
    """Table `ratings`: every rater rates every clip, 1..7 at random, in the order of a random queue."""
    rng = np.random.default_rng(seed)
    pairs = [(c, r) for c in clips["clip"] for r in range(n_raters)]
    frame = pd.DataFrame(pairs, columns=["clip", "rater"]).sample(frac=1, random_state=seed).reset_index(drop=True)
    frame["row"] = frame["rating_id"] = np.arange(len(frame))
    long = frame.loc[np.repeat(np.arange(len(frame)), len(NAMES))].reset_index(drop=True)
    value = rng.integers(1, 8, len(long)).astype(float)
    return long.assign(
        rater="r" + long["rater"].astype(str),
        round=np.where(long["clip"].str.contains("D960"), "D960", "WoO80+D935"),
        dimension=np.tile(np.array(NAMES), len(frame)),
        raw=value,
        value=value,
        duplicate=False,
    )


def labels_of(ratings: pd.DataFrame, rule: str = "clean") -> pd.DataFrame:
    """Table `labels`: plain means."""
    grouped = ratings.groupby(["clip", "dimension"])["value"]
    table = (grouped.mean() / 7).rename("value").reset_index()
    return table.assign(rule=rule, standard_error=(grouped.sem() / 7).to_numpy(), n_raters=grouped.size().to_numpy())
