"""Time the evaluation of a full sweep: the cluster bootstrap of 60 subjects, scores and tests of 300.

    python -m benchmarks.statistics [--data data/percepiano]

`--data` names a corpus' store, whose clips, labels and cluster split are taken; without it clips as unequal as
PercePiano's are drawn. Predictions are drawn either way: 60 configs, ten to a comparison, with the seeds of five
repeats.

Bootstrap: 10,000 resamples of clusters, mean r and each dimension's r of every arm less its reference's, for all clips
and for humans'. Its peers draw the same clusters for the same mean r: `scipy.stats.bootstrap` with a vectorised
statistic (weighted sums over clips), and its plain call with a function of one resample. They are timed on a few arms,
the plain one on fewer resamples, and scaled; the intervals of the vectorised one must be ours.

Scores and tests: from a Parquet file of all predictions to the two tables, in a fresh process that reports both clocks
and its peak memory. The peer computes r, rho and R2 of each subject and dimension with scipy and scikit-learn from the
same frame, for one population at one level and without intervals: an eighth of the views, three of 14 measures.
Goals: 1.5 s for the bootstrap, 60 s and 2 GB for scores and tests. Results go to `benchmarks/results/statistics.json`.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from threadpoolctl import threadpool_limits

from benchmarks.environment import environment
from piano_assets.dimensions import N_DIMENSIONS, NAMES
from piano_assets.schemas import TABLES
from piano_assets.statistics.resampling import draw_counts, group_sums, percentile_interval, resampled
from piano_assets.store.parts import Store

RESULT = Path(__file__).parent / "results" / "statistics.json"
N_CONFIGS, ARMS, SEEDS = 60, 10, 5
N_RESAMPLES, CHUNK = 10_000, 100
PEER_ARMS, PLAIN_RESAMPLES = 4, 500
REPEATS = 3
SPLIT, RULE = "cluster", "clean"
STRUCTURE = ("clips", "labels", "splits")

Scene = dict[str, pd.DataFrame]


# ------------------------------------------------------------------------------------------------------------ the scene


def given(root: Path) -> Scene:
    """Clips, labels and the cluster split of a corpus' store."""
    store = Store(root)
    scene = {"clips": store.read("clips", "all"), "labels": store.read("labels"), "splits": store.read("splits", SPLIT)}
    return scene | {"ceiling": store.read("noise_ceiling", "all")}


def drawn(n_clips: int = 1202, n_excerpts: int = 99, n_clusters: int = 46, n_performers: int = 36) -> Scene:
    """As many clips, excerpts, clusters and performers as PercePiano has, of as unequal sizes."""
    rng = np.random.default_rng(0)
    excerpt = np.r_[np.arange(n_excerpts), rng.choice(n_excerpts, n_clips - n_excerpts, p=_unequal(n_excerpts, 0.5))]
    cluster_of = np.r_[
        np.arange(n_clusters), rng.choice(n_clusters, n_excerpts - n_clusters, p=_unequal(n_clusters, 1))
    ]
    performer = rng.choice(n_performers, n_clips, p=_unequal(n_performers, 0.7))
    names = [f"Schubert_D935_no.3_4bars_{e}_{i:04d}" for i, e in enumerate(excerpt)]
    clips = pd.DataFrame({"clip": names, "excerpt": excerpt, "cluster": cluster_of[excerpt], "performer": performer})
    clips["deadpan"] = clips["performer"] == 0
    shared = rng.normal(size=(n_clusters, N_DIMENSIONS))[cluster_of[excerpt]]
    value = np.clip(0.55 + 0.05 * shared + rng.normal(0, 0.08, (n_clips, N_DIMENSIONS)), 0, 1)
    labels = pd.DataFrame(value, columns=list(NAMES)).assign(clip=names).melt("clip", var_name="dimension")
    rows = []
    for repeat in range(SEEDS):
        fold_of = rng.permutation(np.arange(n_clusters) % 5)[cluster_of[excerpt]]
        for fold in range(5):
            role = np.where(fold_of == fold, "test", "train")
            rows.append(pd.DataFrame({"repeat": repeat, "fold": fold, "clip": names, "role": role}))
    splits = pd.concat(rows, ignore_index=True).assign(split=SPLIT, inner_fold=pd.NA)
    ceiling = {"method": "split_half", "rule": RULE, "population": "all", "level": "global", "reliability": 0.8}
    ceiling |= {"ci_low": 0.74, "ci_high": 0.85, "max_r": 0.8**0.5, "max_r2": 0.8}
    return {
        "clips": clips,
        "labels": labels.assign(rule=RULE),
        "splits": splits,
        "ceiling": pd.DataFrame({"dimension": [*NAMES, "mean"]} | ceiling),
    }


def _unequal(n: int, power: float) -> np.ndarray:
    """Shares that fall as a power of the rank."""
    shares = np.arange(1, n + 1.0) ** -power
    return shares / shares.sum()


def config_name(i: int) -> str:
    return f"comparison_{i // ARMS}.arm_{i % ARMS}"


def trained(labels: np.ndarray, n_configs: int, n_seeds: int) -> Iterator[tuple[str, np.ndarray]]:
    """(subject, predictions (n_clips, 19)): half of each error is the config's own in all its seeds."""
    rng = np.random.default_rng(1)
    centre = np.nan_to_num(labels, nan=float(np.nanmean(labels)))
    for i in range(n_configs):
        config = rng.normal(0, 0.05 + 0.001 * (i % ARMS), labels.shape)
        for seed in range(n_seeds):
            pred = 0.25 + 0.5 * centre + config + rng.normal(0, 0.05, labels.shape)
            yield f"{config_name(i)}|{seed}", pred.astype(np.float32)


def write_predictions(path: Path, scene: Scene, n_configs: int, n_seeds: int) -> int:
    """The predictions of all subjects in one file, a row group each; returns the number of rows."""
    from piano_assets.analysis.panel import units

    known = units(scene["clips"], scene["labels"])
    splits = scene["splits"]
    tested = splits[(splits["role"] == "test") & splits["inner_fold"].isna()]
    schema, n_rows = TABLES["predictions"].arrow_schema, 0
    with pq.ParquetWriter(path, schema, compression="zstd") as file:
        for subject, pred in trained(known.labels[RULE], n_configs, n_seeds):
            repeat = int(subject.rpartition("|")[2])
            rows = tested[tested["repeat"] == repeat]
            at = known.clip.get_indexer(rows["clip"])
            frame = pd.DataFrame(
                {
                    "subject": subject,
                    "split": SPLIT,
                    "repeat": repeat,
                    "fold": np.repeat(rows["fold"].to_numpy(), N_DIMENSIONS),
                    "inner_fold": None,
                    "clip": np.repeat(rows["clip"].to_numpy(object), N_DIMENSIONS),
                    "dimension": np.tile(list(NAMES), len(rows)),
                    "role": "test",
                    "condition": "clean",
                    "tuning": "fixed",
                    "value": pred[at].ravel(),
                    "std": np.float32(np.nan),
                }
            )
            file.write_table(pa.Table.from_pandas(frame[schema.names], schema=schema, preserve_index=False))
            n_rows += len(frame)
    return n_rows


def catalogue_of(n_configs: int, n_seeds: int) -> dict[str, pd.DataFrame]:
    """Tables trials, comparisons, arms, runs and subjects of the configs."""
    configs = [config_name(i) for i in range(n_configs)]
    design = {"split": SPLIT, "label_rule": RULE, "optimisation": None, "budget": "full"}
    trials = pd.DataFrame({"config": configs, "trial": configs, "family": "ridge", "trial_json": json.dumps(design)})
    arms = pd.DataFrame({"config": configs, "comparison": [c.partition(".")[0] for c in configs]})
    arms["arm"], arms["is_reference"] = arms["config"].str.partition(".")[2], arms["config"].str.endswith(".arm_0")
    references = arms[arms["is_reference"]]
    comparisons = pd.DataFrame(
        {
            "comparison": references["comparison"],
            "reference": references["config"],
            "margin": 0.02,
            "split": None,
            "rule": None,
        }
    )
    subjects = pd.DataFrame([(f"{c}|{s}", "trial", c) for c in configs for s in range(n_seeds)])
    subjects.columns = ["subject", "kind", "config"]
    runs = TABLES["runs"].empty()
    return {"trials": trials, "comparisons": comparisons, "arms": arms, "runs": runs, "subjects": subjects}


# ------------------------------------------------------------------------------------------------------------ bootstrap


class Side:
    """Labels and predictions of one population: target (n, 19), pred (n, n_configs, 19), cluster (n,)."""

    def __init__(self, scene: Scene, population: str, n_configs: int) -> None:
        from piano_assets.analysis.panel import units

        known = units(scene["clips"], scene["labels"])
        kept = ~np.isnan(known.labels[RULE][:, 0])
        if population == "humans":
            kept &= known.human
        self.target = known.labels[RULE][kept]
        self.cluster = known.cluster[kept]
        every = np.stack([p for _, p in trained(known.labels[RULE], n_configs, 1)], axis=1)
        self.pred = every[kept].astype(np.float64)

    @property
    def pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """(arms, the reference of each)."""
        every = np.arange(self.pred.shape[1])
        arms = every[every % ARMS > 0]
        return arms, arms // ARMS * ARMS


def bootstrap_ours(sides: list[Side], n_resamples: int) -> list[np.ndarray]:
    """Intervals (2, n_arms, 20) of each population: 19 dimensions and their mean."""
    return [intervals_ours(side, n_resamples) for side in sides]


def intervals_ours(side: Side, n_resamples: int) -> np.ndarray:
    n_configs, d = side.pred.shape[1:]
    counts = draw_counts(len(np.unique(side.cluster)), n_resamples, np.random.default_rng(0))
    arms, reference = side.pairs
    gaps = np.empty((n_resamples, len(arms), d + 1))

    def sums_of(configs: np.ndarray) -> np.ndarray:
        pred = side.pred[:, configs].reshape(len(side.pred), -1)
        return group_sums(pred, np.tile(side.target, len(configs)), side.cluster)

    def some(start: int) -> None:
        r = resampled("pearson", sums, counts[start : start + CHUNK]).reshape(-1, n_configs, d)
        gap = r[:, arms] - r[:, reference]
        gaps[start : start + CHUNK, :, :d], gaps[start : start + CHUNK, :, d] = gap, gap.mean(2)

    # The threads share out the work: products must not start more of them.
    with threadpool_limits(1), ThreadPoolExecutor(os.cpu_count()) as pool:
        parts = np.array_split(np.arange(n_configs), min(8, n_configs))
        sums = np.concatenate(list(pool.map(sums_of, parts)), axis=2)
        list(pool.map(some, range(0, n_resamples, CHUNK)))
        columns = np.array_split(np.arange(len(arms)), 8)
        found = list(pool.map(lambda c: np.stack(percentile_interval(gaps[:, c])), columns))
    return np.concatenate(found, axis=1)


def weighted_mean_r(pred: np.ndarray, target: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Mean over dimensions of Pearson's r, for weights (B, n): (B,)."""
    p, t = pred - target.mean(0), target - target.mean(0)
    n = weight.sum(1, keepdims=True)
    mp, mt, pp, tt, pt = (weight @ x / n for x in (p, t, p * p, t * t, p * t))
    return ((pt - mp * mt) / np.sqrt((pp - mp**2) * (tt - mt**2))).mean(1)


def bootstrap_vectorised(side: Side, arm: int, reference: int, n_resamples: int) -> tuple[float, float]:
    """scipy's bootstrap of clusters with a statistic of many resamples at once."""
    from scipy.stats import bootstrap

    _, code = np.unique(side.cluster, return_inverse=True)
    clusters = np.arange(code.max() + 1)

    def gap(drawn: np.ndarray, axis: int = -1) -> np.ndarray:
        many = np.atleast_2d(drawn)
        flat = many + len(clusters) * np.arange(len(many))[:, None]
        times = np.bincount(flat.ravel(), minlength=len(many) * len(clusters)).reshape(len(many), -1)
        weight = times[:, code].astype(np.float64)
        r = [weighted_mean_r(side.pred[:, i], side.target, weight) for i in (arm, reference)]
        return (r[0] - r[1]).reshape(drawn.shape[:-1])

    rng = np.random.default_rng(0)
    found = bootstrap((clusters,), gap, n_resamples=n_resamples, vectorized=True, method="percentile", rng=rng)
    return tuple(found.confidence_interval)


def bootstrap_plain(side: Side, arm: int, reference: int, n_resamples: int) -> tuple[float, float]:
    """scipy's bootstrap of clusters with a function of one resample."""
    from scipy.stats import bootstrap

    names = np.unique(side.cluster)
    rows = [np.flatnonzero(side.cluster == name) for name in names]

    def mean_r(pred: np.ndarray, target: np.ndarray) -> float:
        p, t = pred - pred.mean(0), target - target.mean(0)
        return float(((p * t).mean(0) / (p.std(0) * t.std(0))).mean())

    def gap(drawn: np.ndarray) -> float:
        at = np.concatenate([rows[i] for i in drawn])
        return mean_r(side.pred[at, arm], side.target[at]) - mean_r(side.pred[at, reference], side.target[at])

    rng, clusters = np.random.default_rng(0), np.arange(len(names))
    found = bootstrap((clusters,), gap, n_resamples=n_resamples, vectorized=False, method="percentile", rng=rng)
    return tuple(found.confidence_interval)


def bootstrap_figures(
    scene: Scene, n_configs: int = N_CONFIGS, n_resamples: int = N_RESAMPLES, plain_resamples: int = PLAIN_RESAMPLES
) -> dict[str, Any]:
    """Ours and the peers in turn, `REPEATS` times; peers scaled to all arms, populations and resamples."""
    sides = [Side(scene, population, n_configs) for population in ("all", "humans")]
    arms, reference = sides[0].pairs
    pairs = list(zip(arms, reference, strict=True))[:PEER_ARMS]
    scale = len(sides) * len(arms)
    took: dict[str, list[tuple[float, float]]] = {"ours": [], "scipy_vectorised": [], "scipy_plain": []}
    apart = 0.0
    for _ in range(REPEATS):
        plain, _ = timed(lambda: bootstrap_plain(sides[0], *pairs[0], plain_resamples))
        took["scipy_plain"].append(scaled(plain, scale * n_resamples / plain_resamples))
        peer, said = timed(lambda: [bootstrap_vectorised(sides[0], *pair, n_resamples) for pair in pairs])
        took["scipy_vectorised"].append(scaled(peer, scale / len(pairs)))
        ours, found = timed(lambda: bootstrap_ours(sides, n_resamples))
        took["ours"].append(ours)
        apart = max(apart, float(abs(found[0][:, : len(pairs), -1].T - np.array(said)).max()))
    if apart > 1e-9:
        raise RuntimeError(f"ours and scipy's intervals of the same draws lie {apart} apart: they are not peers")
    figures = {name: clocks(runs) for name, runs in took.items()}
    for name in ("scipy_vectorised", "scipy_plain"):
        ratios = [p[0] / o[0] for o, p in zip(took["ours"], took[name], strict=True)]
        figures[name]["wall_ratio_to_ours"] = round(float(np.median(ratios)), 1)
    counted = {"subjects": n_configs, "arms": len(arms), "dimensions": N_DIMENSIONS, "populations": len(sides)}
    counted |= {"resamples": n_resamples, "clusters": len(np.unique(sides[0].cluster))}
    return {**counted, "goal_wall_s": 1.5, **figures, "largest_gap_to_scipy": apart}


# ----------------------------------------------------------------------------------------------------- scores and tests


def read_frame(path: Path) -> pd.DataFrame:
    """All predictions, names as categories."""
    names = [name for name, column in TABLES["predictions"].columns.items() if column.type == "text"]
    return pq.read_table(path, read_dictionary=names).to_pandas()


def evaluate_ours(folder: Path, n_configs: int, n_seeds: int) -> dict[str, Any]:
    from piano_assets.analysis.scores import score_table
    from piano_assets.analysis.tests import comparison_tests

    scene = {name: pd.read_parquet(folder / f"{name}.parquet") for name in (*STRUCTURE, "ceiling")}
    tables = catalogue_of(n_configs, n_seeds)
    read, predictions = timed(lambda: read_frame(folder / "predictions.parquet"))
    inputs = {"predictions": predictions, "subjects": tables["subjects"], "trials": tables["trials"]}
    inputs |= {name: scene[name] for name in STRUCTURE}
    scored, scores = timed(lambda: score_table(**inputs, ceiling=scene["ceiling"]))
    designed = {name: tables[name] for name in ("comparisons", "arms", "runs")}
    rng = np.random.default_rng(0)
    compared, (tests, untested) = timed(lambda: comparison_tests(**inputs, **designed, rng=rng))
    if len(untested):
        raise RuntimeError(f"{len(untested)} arms or views were not tested: {untested['reason'].iloc[0]}")
    rows = {"predictions": len(predictions), "scores": len(scores), "tests": len(tests)}
    return {"read": read, "scores": scored, "tests": compared, "rows": rows}


def evaluate_peer(folder: Path, n_configs: int, n_seeds: int) -> dict[str, Any]:
    """r, rho and R2 of each subject and dimension, one population at one level, no intervals."""
    from scipy.stats import pearsonr, spearmanr
    from sklearn.metrics import r2_score

    read, predictions = timed(lambda: read_frame(folder / "predictions.parquet"))
    labels = pd.read_parquet(folder / "labels.parquet")
    labels = labels[labels["rule"] == RULE].rename(columns={"value": "label"})

    def values() -> list[tuple]:
        joined = predictions.astype({"clip": str, "dimension": str}).merge(
            labels[["clip", "dimension", "label"]], on=["clip", "dimension"]
        )
        found = []
        for key, rows in joined.groupby(["subject", "dimension"], observed=True):
            p, t = rows["value"].to_numpy(np.float64), rows["label"].to_numpy()
            found.append((*key, pearsonr(p, t)[0], spearmanr(p, t)[0], r2_score(t, p)))
        return found

    took, found = timed(values)
    return {"read": read, "values": took, "rows": {"predictions": len(predictions), "values": len(found)}}


EVALUATIONS: dict[str, Callable[[Path, int, int], dict[str, Any]]] = {"ours": evaluate_ours, "peer": evaluate_peer}


def evaluation_figures(
    scene: Scene, folder: Path, n_configs: int = N_CONFIGS, n_seeds: int = SEEDS, repeats: int = REPEATS
) -> dict[str, Any]:
    """Ours and the peer in turn, each in a fresh process."""
    n_rows = write_predictions(folder / "predictions.parquet", scene, n_configs, n_seeds)
    for name in (*STRUCTURE, "ceiling"):
        scene[name].to_parquet(folder / f"{name}.parquet")
    took: dict[str, list[dict]] = {name: [] for name in EVALUATIONS}
    for _ in range(repeats):
        for name in EVALUATIONS:
            command = [sys.executable, "-m", "benchmarks.statistics", "--evaluate", name, "--folder", str(folder)]
            command += ["--configs", str(n_configs), "--seeds", str(n_seeds)]
            said = subprocess.run(command, check=True, capture_output=True, text=True)
            took[name].append(json.loads(said.stdout))
    figures: dict[str, Any] = {"subjects": n_configs * n_seeds, "rows": n_rows, "goal_wall_s": 60, "goal_peak_mb": 2000}
    for name, runs in took.items():
        stages = [stage for stage in runs[0] if stage not in ("rows", "peak_memory_mb")]
        figures[name] = {stage: clocks([run[stage] for run in runs]) for stage in stages}
        figures[name]["peak_memory_mb"] = spread([run["peak_memory_mb"] for run in runs])
        figures[name]["rows"] = runs[0]["rows"]
    both = [[run[s][0] for s in ("scores", "tests")] for run in took["ours"]]
    figures["ours"]["scores_and_tests_wall_s"] = spread([sum(b) for b in both])
    return figures


# ------------------------------------------------------------------------------------------------------------- timings


def timed(function: Callable[[], Any]) -> tuple[tuple[float, float], Any]:
    """((wall, processor) seconds, what came back)."""
    wall, processor = time.perf_counter(), time.process_time()
    found = function()
    return (time.perf_counter() - wall, time.process_time() - processor), found


def scaled(took: tuple[float, float], by: float) -> tuple[float, float]:
    return took[0] * by, took[1] * by


def peak_mb() -> float:
    """Most memory that this program held. (`ru_maxrss` remembers the process from which this one was started.)"""
    (line,) = (s for s in Path("/proc/self/status").read_text().splitlines() if s.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def spread(values: list[float]) -> dict[str, float]:
    figures = {"median": float(np.median(values)), "least": min(values), "most": max(values)}
    return {name: round(value, 3) for name, value in figures.items()} | {"n": len(values)}


def clocks(runs: list[tuple[float, float]]) -> dict[str, Any]:
    return {"wall_s": spread([w for w, _ in runs]), "processor_s": spread([p for _, p in runs])}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a corpus' store, as data/percepiano")
    parser.add_argument("--configs", type=int, default=N_CONFIGS, help="trained configs, ten to a comparison")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="seeds of each config, at most 5")
    parser.add_argument("--results", type=Path, default=RESULT)
    parser.add_argument("--evaluate", choices=EVALUATIONS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    if asked.evaluate:
        found = EVALUATIONS[asked.evaluate](asked.folder, asked.configs, asked.seeds)
        print(json.dumps(found | {"peak_memory_mb": peak_mb()}))
        return
    scene = given(asked.data) if asked.data else drawn()
    result: dict[str, Any] = {"environment": environment(), "corpus": str(asked.data.name) if asked.data else "drawn"}
    result["bootstrap"] = bootstrap_figures(scene, asked.configs)
    print("bootstrap", json.dumps(result["bootstrap"], indent=2), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        result["evaluation"] = evaluation_figures(scene, Path(folder), asked.configs, asked.seeds)
    print("evaluation", json.dumps(result["evaluation"], indent=2), flush=True)
    asked.results.parent.mkdir(exist_ok=True)
    asked.results.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
