"""How far more data would go: a trial learnt again from fewer clips, and the curve that its scores follow.

Training and validation clips are thinned by whole clusters, since music is what a corpus has few of: a share of the
clips of all music would still show nearly all of it. Smaller sets lie inside larger ones, and test clips stay as they
are. Networks take as many steps as on all clips, so that what shrinks is what they hear, not how long they learn.

What the scores say of more data is read from an inverse power law (`statistics.power_law`). Four sizes cannot refute
it; doubling the data is as far as it is asked. Its interval is that of the test clips, as at the sizes themselves: it
holds neither the luck of which clusters were kept nor a law that is none.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from piano_assets.analysis.diagnostics.rows import table
from piano_assets.analysis.evaluate import ROW_NAMES, Judged, average, judge, weighted
from piano_assets.analysis.panel import Block, Units, units
from piano_assets.analysis.scores import intervals
from piano_assets.catalogue.trial import Trial
from piano_assets.dimensions import N_DIMENSIONS, NAMES
from piano_assets.schemas import POPULATIONS
from piano_assets.statistics.power_law import NoLaw, power_law
from piano_assets.store.parts import Store
from piano_assets.training.data import TrialData, load, repeat_of

if TYPE_CHECKING:
    from piano_assets.training.members import Group

SHARES = (0.125, 0.25, 0.5, 1.0)
METRICS = ("pearson_mean", "r2_pooled")
SIZE, DOUBLED, LAW, EPOCH = "size", "size doubled", "power law", "epoch"
LEAST_CLIPS = 2


def data_size(
    trial: Trial,
    config: str,
    store: Store,
    *,
    shares: Sequence[float] = SHARES,
    seeds: Sequence[int] = (0,),
    device: str = "cpu",
    precision: str = "float32",
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """The learning curve of a trial over the number of clips that it learns from. Nothing is stored.

    Args:
        shares: of the training and validation clips, in (0, 1]. seeds: scores are means over them.
        threads: for tabular models, all cores if None. progress: told (folds trained, folds).
    Returns:
        rows with condition

        - `size`: step n (training and validation clips, mean over folds and seeds), scores of each population.
        - `power law`: metrics `<metric>_a`, `_b`, `_c` of each metric's mean over dimensions.
        - `size doubled`: step twice all clips; the score that the law predicts. Where there is none, value NULL and
          the reason behind the condition.
    Raises:
        ValueError: a share outside (0, 1], or what training refuses.
    """
    wrong = [s for s in shares if not 0 < s <= 1]
    if wrong or not shares:
        raise ValueError(f"shares={tuple(shares)} must lie in (0, 1]")
    data, clips = load(trial, store), store.read("clips", "all")
    known = units(clips, store.read("labels", trial.label_rule))
    cluster = clips.set_index("clip")["cluster"].loc[data.clips].to_numpy(str)
    n_folds = sum(repeat == 0 for repeat, _ in data.roles)
    total, done = n_folds * len(seeds) * len(shares), 0

    def fold_done() -> None:
        nonlocal done
        done += 1
        if progress:
            progress(done, total)

    points = []
    for share in sorted(set(shares)):
        judged, sizes = [], []
        for seed in seeds:
            repeat = repeat_of(seed, data.n_repeats)
            fewer = thinned(data, cluster, repeat, share, seed)
            rows = _predictions(trial, config, seed, data, fewer, (device, precision, threads), fold_done)
            judged.append(_judged(rows, trial, config, seed, repeat, known))
            folds = [fold for r, fold in data.roles if r == repeat]
            sizes.append(np.mean([len(fewer.rows(repeat, fold, "train", "valid")) for fold in folds]))
        mean = {p: average([j[p] for j in judged]) for p in POPULATIONS if all(p in j for j in judged)}
        points.append((float(np.mean(sizes)), mean))
    return table([*_scores(points, known), *_extrapolated(points, known)])


def thinned(data: TrialData, cluster: np.ndarray, repeat: int, share: float, seed: int) -> TrialData:
    """The data with whole clusters of each fold's training and validation clips set to `unused`.

    Each role's clusters are put in an order drawn once for (seed, fold), and those in front stay that come nearest to
    `share` of its labelled clips, though at least so many as hold two. cluster: (n_clips,) names.
    """
    from piano_assets.training.members import random_seed

    roles = dict(data.roles)
    for fold in [fold for r, fold in roles if r == repeat]:
        roles[repeat, fold] = roles[repeat, fold].copy()
        for role in ("train", "valid"):
            rows = data.rows(repeat, fold, role)
            rng = np.random.default_rng(random_seed(seed, fold, f"{role} clusters"))
            roles[repeat, fold][rows[~first_clusters(cluster[rows], share, rng)]] = "unused"
    return replace(data, roles=roles)


def first_clusters(cluster: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """(n,) True for the clips of the clusters in front; see `thinned`. A larger share only adds clusters."""
    names, codes, sizes = np.unique(cluster, return_inverse=True, return_counts=True)
    order = rng.permutation(len(names))
    reached = np.cumsum(sizes[order])
    enough = int(np.searchsorted(reached, LEAST_CLIPS))
    n = 1 + max(int(abs(reached - share * len(cluster)).argmin()) if len(reached) else 0, enough)
    return np.isin(codes, order[:n])


def _predictions(
    trial: Trial,
    config: str,
    seed: int,
    whole: TrialData,
    fewer: TrialData,
    how: tuple[str, str, int | None],
    fold_done: Callable[[], None],
) -> pd.DataFrame:
    """Test predictions of a trial that learns from `fewer`, rows as `FoldResult.predictions`."""
    device, precision, threads = how
    repeat = repeat_of(seed, whole.n_repeats)
    found: list[pd.DataFrame] = []
    if trial.optimisation is None:
        from piano_assets.training.folds import fit_tabular

        for fold in sorted(fold for r, fold in whole.roles if r == repeat):
            found.append(fit_tabular(trial, fewer, repeat, fold, seed, threads).predictions)
            fold_done()
        return pd.concat(found, ignore_index=True)
    from piano_assets.training.members import groups_of
    from piano_assets.training.stacks import fit_groups

    def on_group(_: "Group", result: Any) -> None:
        found.append(result.predictions)
        fold_done()

    steps = groups_of(trial, config, seed, repeat, whole)[0].steps
    groups = [replace(group, steps=steps) for group in groups_of(trial, config, seed, repeat, fewer)]
    with tempfile.TemporaryDirectory() as folder:
        fit_groups(
            groups,
            fewer,
            device=device,
            precision=precision,
            folder_of=lambda group: Path(folder) / f"fold{group.fold}",
            on_group=on_group,
        )
    return pd.concat(found, ignore_index=True)


def _judged(rows: pd.DataFrame, trial: Trial, config: str, seed: int, repeat: int, known: Units) -> dict[str, Judged]:
    """A trial's test predictions, judged in each population that has clips enough."""
    from piano_assets.training.members import FIXED, TUNED, search_points

    tuning = TUNED if search_points(trial) else FIXED
    tested = rows[(rows["role"] == "test") & (rows["tuning"] == tuning)]
    wide = tested.pivot(index=["fold", "clip"], columns="dimension", values="value").reindex(columns=list(NAMES))
    clip = known.clip.get_indexer(wide.index.get_level_values("clip"))
    fold = wide.index.get_level_values("fold").to_numpy(np.int64)
    block = Block(f"{config}|{seed}", trial.split, tuning, repeat, fold, clip, wide.to_numpy(np.float64))
    judged = {p: judge(block, known, trial.label_rule, p, "global", METRICS) for p in POPULATIONS}
    return {population: found for population, found in judged.items() if found is not None}


Points = Sequence[tuple[float, dict[str, Judged]]]
"""(clips learnt from, population -> scores) of each size."""


def _scores(points: Points, known: Units) -> Iterator[dict[str, object]]:
    for n, judged in points:
        for population, found in judged.items():
            low, high = intervals(found, known)
            for metric, value in found.value.items():
                for d, dimension in enumerate(ROW_NAMES):
                    told = {"condition": SIZE, "step": n, "population": population, "dimension": dimension}
                    told |= {"metric": metric, "value": value[d], "ci_low": low[metric][d], "ci_high": high[metric][d]}
                    yield told


def _extrapolated(points: Points, known: Units) -> Iterator[dict[str, object]]:
    """The law of each metric's mean over dimensions, and what it says of twice the data."""
    n = np.array([size for size, _ in points])
    for population in points[-1][1]:
        parts = [judged[population] for _, judged in points if population in judged]
        for metric in METRICS:
            told: dict[str, object] = {"step": 2 * n[-1], "population": population, "dimension": "mean"}
            try:
                if len(parts) < len(n):
                    raise NoLaw(f"{len(n) - len(parts)} sizes have no score")
                law = power_law(n, np.array([p.value[metric][N_DIMENSIONS] for p in parts]))
            except NoLaw as reason:
                yield told | {"condition": f"{DOUBLED}: {reason}", "metric": metric, "value": np.nan}
                continue
            weight, value = law.gradient(2 * n[-1]), law(2 * n[-1])
            ahead = replace(weighted(parts, weight.tolist(), [metric]), value={metric: np.full(len(ROW_NAMES), value)})
            low, high = (ends[metric][N_DIMENSIONS] for ends in intervals(ahead, known))
            found = {"value": value, "ci_low": low, "ci_high": high}
            yield told | {"condition": DOUBLED, "metric": metric} | found
            for name in ("a", "b", "c"):
                told_law = {"condition": LAW, "step": np.nan, "metric": f"{metric}_{name}"}
                yield told | told_law | {"value": getattr(law, name)}


def epochs(history: pd.DataFrame) -> pd.DataFrame:
    """Learning curves over epochs: means over folds and seeds, of the search point that each fold kept.

    A fold that has stopped keeps its last value, so that a mean is always one over all folds.

    Args:
        history: rows of the table `history` of one trial, outer level.
    Returns:
        rows with condition `epoch`, step the epoch from 0, metrics train_loss, valid_loss and valid_r.
    Raises:
        ValueError: history of several trials.
    """
    from piano_assets.training.members import FIXED

    if history["trial"].nunique() > 1:
        raise ValueError(f"history of one trial is wanted, got {history['trial'].nunique()}")
    metrics = ["train_loss", "valid_loss", "valid_r"]
    rows = history[history["inner_fold"].isna()].copy()
    # A trial's own values, where they are no point of its grid, are not chosen from.
    others = rows.groupby(["seed", "fold"])["search_point"].transform("nunique") > 1
    rows = rows[~(others & (rows["search_point"] == FIXED))]
    best = rows.sort_values("valid_r", ascending=False, kind="stable").drop_duplicates(["seed", "fold"])
    rows = rows.merge(best[["seed", "fold", "search_point"]])
    wide = rows.pivot(index="epoch", columns=["seed", "fold"], values=metrics).sort_index().ffill()
    mean = wide.T.groupby(level=0).mean().T[metrics]
    told = {"condition": EPOCH, "population": "all", "dimension": "mean"}
    return table(
        told | {"step": float(e), "metric": metric, "value": value}
        for e, row in mean.iterrows()
        for metric, value in row.items()
    )
