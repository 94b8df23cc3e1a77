"""Leaks: how many test clips have a relative in training, by kind of kinship, and what a split promised about it."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from piano_assets.corpus.splits import KINDS, SPLITS

MILLISECOND = 1000.0


def notes_hashes(notes: pd.DataFrame) -> dict[str, str]:
    """Hash every clip's pitches, velocities and onsets (to the millisecond): clip -> hash.

    Releases are left out: excerpts cut from one recording differ only in where the last notes end. PercePiano has 32
    groups of clips that are identical in this sense (30 at microseconds).
    """
    import hashlib

    ordered = notes.sort_values(["clip", "onset_s", "pitch", "velocity"], kind="stable")
    values = np.column_stack(
        [np.rint(ordered["onset_s"].to_numpy() * MILLISECOND), ordered["pitch"], ordered["velocity"]]
    ).astype("<i4")
    starts = np.flatnonzero(ordered["clip"].to_numpy() != ordered["clip"].shift().to_numpy())
    clips = ordered["clip"].to_numpy()[starts]
    return {
        str(c): hashlib.sha256(v.tobytes()).hexdigest()[:16]
        for c, v in zip(clips, np.split(values, starts[1:]), strict=True)
    }


def leaks(split_rows: pd.DataFrame, clips: pd.DataFrame, notes_hash: Mapping[str, str]) -> pd.DataFrame:
    """Share of each fold's test clips that have a relative among its `train` and `valid` clips (table `leaks`).

    Args:
        split_rows: rows of table `splits`, of one split or several. Only the outer level is read.
        clips: table `clips`, with clusters.
        notes_hash: clip -> hash (`notes_hashes`).

    Raises:
        ValueError: a clip of the split that is not in `clips` or has no hash.
    """
    outer = split_rows[split_rows["inner_fold"].isna()]
    kin = _kinship(outer, clips, notes_hash)
    rows = []
    for (split, repeat, fold), group in outer.groupby(["split", "repeat", "fold"], sort=True):
        role = group["role"].to_numpy()
        for kind in KINDS:
            relatives = kin.loc[group.index, kind].to_numpy()
            share = shared(relatives[role == "test"], relatives[(role == "train") | (role == "valid")])
            rows.append((split, repeat, fold, kind, share, kind in SPLITS[str(split)].promises))
    return pd.DataFrame(rows, columns=["split", "repeat", "fold", "kind", "share", "promised_zero"])


def shared(held_out: np.ndarray, learnt: np.ndarray) -> float:
    """Share of the held-out clips whose group is also among the learnt ones; 0 when nothing is held out."""
    return float(pd.Series(held_out).isin(set(learnt)).mean()) if len(held_out) else 0.0


def leak_violations(leak_rows: pd.DataFrame) -> list[str]:
    """One sentence for every promise that is broken; empty when all are kept."""
    broken = leak_rows[leak_rows["promised_zero"].astype(bool) & (leak_rows["share"] > 0)]
    return [
        f"split {r.split!r}, repeat {r.repeat}, fold {r.fold}: {r.share:.1%} of the test clips have a relative in "
        f"training ({r.kind}), which the split promises not to have"
        for r in broken.itertuples()
    ]


def validation_violations(split_rows: pd.DataFrame, clips: pd.DataFrame) -> list[str]:
    """One sentence for every fold, inner folds included, whose validation clips share a unit with its training clips.

    The unit is the split's own (`Split.valid_unit`). A model would be stopped, tuned and calibrated on music (or
    players) that it has learnt from.
    """
    found = []
    for (split, repeat, fold, inner), group in split_rows.groupby(
        ["split", "repeat", "fold", "inner_fold"], dropna=False
    ):
        unit = SPLITS[str(split)].valid_unit
        if unit is None:
            continue
        relatives = group["clip"].map(clips.set_index("clip")[unit]).to_numpy()
        role = group["role"].to_numpy()
        share = shared(relatives[role == "valid"], relatives[role == "train"])
        if share > 0:
            where = "" if pd.isna(inner) else f", inner fold {inner}"
            found.append(
                f"split {split!r}, repeat {repeat}, fold {fold}{where}: {share:.1%} of the validation clips have "
                f"a relative in training ({unit})"
            )
    return found


def _kinship(rows: pd.DataFrame, clips: pd.DataFrame, notes_hash: Mapping[str, str]) -> pd.DataFrame:
    table = clips.set_index("clip")[["cluster", "excerpt", "performer"]]
    table["identical_notes"] = pd.Series(notes_hash, dtype=object).reindex(table.index)
    unknown = sorted(set(rows["clip"]) - set(table.dropna().index))
    if unknown:
        raise ValueError(
            f"clip {unknown[0]!r} ({len(unknown)} in all) is in the split, but not in clips or without a hash"
        )
    return table.loc[rows["clip"]].set_axis(rows.index)
