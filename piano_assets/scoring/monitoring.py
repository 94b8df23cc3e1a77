"""What recordings are like, against what a champion learnt from; and a fixed set, as champions before scored it."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from piano_assets.dimensions import NAMES
from piano_assets.ensembles.champion_files import Holder, Learnt
from piano_assets.schemas import TABLES
from piano_assets.scoring.tables import recording_id
from piano_assets.statistics.drift import chance_psi, kolmogorov_smirnov, psi
from piano_assets.statistics.multiplicity import holm
from piano_assets.store.parts import Store, digest, read_part

ALPHA, SHIFT = 0.05, 0.25
"""Drift is a corrected p value of at most `ALPHA` and an index over `SHIFT`: one says it is no chance, one that it is
large."""
FEWEST = 5
"""Values of a feature on both sides, below which its distribution is not spoken of."""
MOVED = 0.05
"""Mean change of the fixed set's scores, on the 0..1 scale, over which another champion is another listener: a third of
a point of the seven."""
FEATURE, SCORE = "feature", "score"


def monitoring_rows(recording: str, told: Mapping[str, Any] | None) -> pd.DataFrame:
    """Rows of the table `monitoring`. told: see `tell.as_json`; None for a recording that was refused."""
    if told is None:
        return TABLES["monitoring"].empty()
    found = []
    for window in told["windows"]:
        for kind, values in ((FEATURE, window["features"]), (SCORE, window["scores"])):
            rows = pd.DataFrame({"kind": kind, "name": list(values), "value": list(values.values())})
            found.append(rows.assign(window_start_s=window["start_s"], window_end_s=window["end_s"]))
    by = {"champion": told["champion"]["champion"], "part_key": told["champion"]["part_key"]}
    return pd.concat(found, ignore_index=True).astype({"value": float}).assign(recording=recording, **by)


def keep(store: Store, told: Mapping[str, Any]) -> None:
    """Write what was measured and scored of a recording into `monitoring`, unless this champion's is there already."""
    name, part_key = recording_id(told["recording"], told["content_hash"]), told["champion"]["part_key"]
    there = store.part("monitoring", name)
    if there is None or part_key not in set(read_part(there, ["part_key"]).to_pandas()["part_key"]):
        store.write("monitoring", monitoring_rows(name, told), key=digest("monitoring", name, part_key), name=name)


def drift_table(monitored: pd.DataFrame, champions: Sequence[Learnt]) -> pd.DataFrame:
    """Rows of the table `drift` for each champion that has scored recordings.

    A recording counts by its longest window: windows of one recording are no independent draws. Scores are compared
    with those of members that had not learnt from a performance, since nobody has learnt from a recording.

    Args:
        monitored: rows of the table `monitoring`.
    """
    found = [TABLES["drift"].empty()]
    for holder in champions:
        name, key = holder.record["champion"], holder.record["part_key"]
        mine = monitored[(monitored["champion"] == name) & (monitored["part_key"] == key)]
        rows = _drift_of(_longest(mine), holder)
        if not rows.empty:
            found.append(rows.assign(champion=name, part_key=key))
    return pd.concat(found, ignore_index=True) if len(found) > 1 else found[0]


def _longest(monitored: pd.DataFrame) -> pd.DataFrame:
    windows = monitored[["recording", "window_start_s", "window_end_s"]].drop_duplicates()
    windows = windows.assign(seconds=windows["window_end_s"] - windows["window_start_s"])
    chosen = windows.sort_values(["seconds", "window_start_s"], ascending=[False, True]).drop_duplicates("recording")
    return monitored.merge(chosen[["recording", "window_start_s"]])


def _drift_of(rows: pd.DataFrame, holder: Learnt) -> pd.DataFrame:
    trained = {(FEATURE, name): holder.features[holder.human, k] for k, name in enumerate(holder.feature_names)}
    trained |= {(SCORE, name): holder.out_of_fold[holder.human, k] for k, name in enumerate(NAMES)}
    found = []
    for (kind, name), values in rows.groupby(["kind", "name"], sort=True)["value"]:
        expected, observed = (v[np.isfinite(v)] for v in (trained[kind, name], values.to_numpy(float)))
        if min(len(expected), len(observed)) < FEWEST:
            continue
        low, centre, high = np.quantile(expected, [0.05, 0.5, 0.95])
        ks, p = kolmogorov_smirnov(expected, observed)
        found.append(
            {
                "kind": kind,
                "name": name,
                "n_recordings": len(observed),
                "n_training": len(expected),
                "shift": (float(np.median(observed)) - centre) / max((high - low) / 2, 1e-12),
                "psi": psi(expected, observed),
                "psi_by_chance": chance_psi(len(expected), len(observed)),
                "ks": ks,
                "p_value": p,
            }
        )
    if not found:
        return pd.DataFrame()
    table = pd.DataFrame(found)
    corrected = holm(table["p_value"].to_numpy())
    large = table["psi"] > np.maximum(SHIFT, table["psi_by_chance"])
    return table.assign(p_holm=corrected, drifted=(corrected <= ALPHA) & large)


def reference_scores(holder: Holder, is_current: bool) -> pd.DataFrame:
    """Rows of the table `reference_scores`: of each cluster the first performance of a person, by name."""
    people = np.flatnonzero(holder.human)
    first = pd.DataFrame({"row": people, "cluster": holder.clusters[people], "clip": holder.clips[people]})
    rows = first.sort_values("clip").drop_duplicates("cluster")["row"].to_numpy()
    value = holder.predict(holder.features[rows])
    n = len(NAMES)
    return pd.DataFrame(
        {
            "champion": holder.record["champion"],
            "part_key": holder.record["part_key"],
            "is_current": is_current,
            "clip": np.repeat(holder.clips[rows], n),
            "dimension": np.tile(NAMES, len(rows)),
            "value": value.ravel(),
            "out_of_fold": holder.out_of_fold[rows].ravel(),
            "label": holder.target[rows].ravel(),
        }
    )


def changes(reference: pd.DataFrame, champion: str) -> pd.DataFrame:
    """What champions of a title say of the fixed set, against the one that scores now.

    Returns:
        A row for each other champion and dimension: part_key, dimension, mean_change (the present less the other),
        mean_absolute_change, r.
    """
    mine = reference[reference["champion"] == champion]
    now = mine[mine["is_current"]].set_index(["clip", "dimension"])["value"]
    rows = []
    for (key, dimension), of in mine[~mine["is_current"]].groupby(["part_key", "dimension"], sort=True):
        both = of.set_index(["clip", "dimension"])["value"].to_frame("then").join(now.rename("now"), how="inner")
        change = both["now"] - both["then"]
        r = float(np.corrcoef(both["now"], both["then"])[0, 1]) if len(both) > 2 else np.nan
        rows.append((key, dimension, float(change.mean()), float(change.abs().mean()), r))
    return pd.DataFrame(rows, columns=["part_key", "dimension", "mean_change", "mean_absolute_change", "r"])
