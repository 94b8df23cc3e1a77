"""Small frames of every table that is read for reports and documents, as the declarations allow them."""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from piano_assets.dimensions import NAMES
from piano_assets.features.sets import FEATURE_SETS, HARMONIC, MFCC, SPECTRAL, TEMPORAL
from piano_assets.schemas import TABLES
from piano_assets.store.parts import Store
from piano_assets.store.warehouse import all_parts, build_snapshot

EXCERPTS = ("D960_mv2_8bars_01", "WoO80_var3_8bars_03")
PLAYERS = ("1", "2", "Score")
CLIPS = tuple(f"Composer_{e}_{p}" for e in EXCERPTS for p in PLAYERS)
CONFIG, SUBJECTS = "family.ridge", ("family.ridge|0", "lookup.excerpt_plus_performer", "family.extra_trees|0")
AUDIO = (*SPECTRAL, *MFCC, *TEMPORAL, *HARMONIC)


def board_row(subject: str, **changes) -> dict:
    """One row of `leaderboard_trials`: everything missing that may be, but for what `changes` says."""
    row = {c: None for c, d in TABLES["leaderboard_trials"].columns.items() if d.nullable}
    row |= {"split": "cluster", "rule": "clean", "aggregation": "pooled", "subject": subject, "kind": "arm"}
    return row | {"family": "ridge", "tuning": "fixed", "n_seeds": 0, "complete": True} | changes


def board(*rows: dict) -> pd.DataFrame:
    """Rows of `leaderboard_trials` as they come back from a part."""
    return conformed("leaderboard_trials", pd.DataFrame(list(rows), columns=list(board_row("x"))))


def conformed(table: str, frame: pd.DataFrame) -> pd.DataFrame:
    """The frame as the store would give it back; raises where it breaks the table's declaration."""
    for column, c in TABLES[table].columns.items():
        if c.type == "integer":
            frame = frame.astype({column: "Int32"})
    return TABLES[table].conform(frame).to_pandas()


def cross(**axes) -> pd.DataFrame:
    return pd.MultiIndex.from_product(axes.values(), names=axes.keys()).to_frame(index=False)


def small_tables(seed: int = 0) -> dict[str, pd.DataFrame]:
    """Two excerpts by three players, one of them a deadpan rendition; three subjects; one network with its history."""
    rng = np.random.default_rng(seed)

    def unit(frame: pd.DataFrame) -> np.ndarray:
        return rng.uniform(0.2, 0.9, len(frame))

    clips = cross(excerpt=EXCERPTS, player=PLAYERS).assign(clip=CLIPS)
    clips = clips.assign(composer="Composer", work=clips["excerpt"].str.split("_").str[0], movement="mv2", bars=8)
    clips = clips.assign(segment=1, cluster=clips["excerpt"], performer=clips["work"] + "_" + clips["player"])
    clips = clips.assign(deadpan=clips["player"] == "Score", duration_s=20.0, n_notes=100, content_hash=clips["clip"])
    ratings = cross(clip=CLIPS, rater=("a", "b", "c"), dimension=NAMES)
    ratings["row"] = ratings["rating_id"] = np.arange(len(ratings)) // len(NAMES)
    ratings = ratings.assign(round="WoO80+D935", raw=rng.integers(1, 8, len(ratings)).astype(float), duplicate=False)
    ratings["value"] = ratings["raw"]
    labels = cross(clip=CLIPS, dimension=NAMES, rule=("clean", "published"))
    labels = labels.assign(value=unit(labels), standard_error=0.05, n_raters=3)
    ceiling = cross(
        method=("split_half", "anova_icc"),
        rule=("clean",),
        population=("all", "humans"),
        level=("global", "within_excerpt"),
        dimension=(*NAMES, "mean"),
    ).assign(reliability=0.75, ci_low=0.7, ci_high=0.8, max_r=0.87, max_r2=0.75)
    splits = cross(split=("cluster",), repeat=(0,), fold=(0, 1), clip=CLIPS).assign(inner_fold=None, split_hash="h")
    splits["role"] = np.where(splits["clip"].str.contains("D960") == (splits["fold"] == 0), "test", "train")
    leaks = cross(split=("cluster", "performer"), repeat=(0,), fold=(0, 1), kind=("cluster", "performer"))
    leaks = leaks.assign(share=(leaks["split"] != leaks["kind"]).astype(float), promised_zero=False)
    predictions = cross(subject=SUBJECTS, clip=CLIPS, dimension=NAMES)
    predictions = predictions.assign(value=unit(predictions).astype("float32"), std=np.float32(np.nan), split="cluster")
    predictions = predictions.assign(repeat=0, fold=(~predictions["clip"].str.contains("D960")).astype(int))
    predictions = predictions.assign(inner_fold=None, role="test", condition="clean", tuning="fixed")
    features = pd.concat(
        [
            cross(clip=CLIPS, feature=AUDIO).assign(rendering="modal", source="audio"),
            cross(clip=CLIPS, feature=("velocity_mean", "tempo_vs_deadpan")).assign(
                rendering="midi", source="symbolic"
            ),
        ]
    )
    trials = pd.DataFrame({"config": [CONFIG, "family.extra_trees", "ast.reference@smoke"]})
    trials["trial"] = ["t" + c for c in trials["config"]]
    trials = trials.assign(family=["ridge", "extra_trees", "ast"], n_params=[None, None, 1000])
    trials = trials.assign(trial_json=json.dumps({"split": "cluster", "label_rule": "clean"}), budget="full")
    subjects = pd.DataFrame(
        [
            (CONFIG, "arm", "ridge", CONFIG, None, "t" + CONFIG),
            (SUBJECTS[0], "trial", "ridge", CONFIG, 0, "t" + CONFIG),
            (SUBJECTS[1], "lookup", "lookup", None, None, None),
            ("family.extra_trees", "arm", "extra_trees", "family.extra_trees", None, "tfamily.extra_trees"),
            (SUBJECTS[2], "trial", "extra_trees", "family.extra_trees", 0, "tfamily.extra_trees"),
        ],
        columns=list(TABLES["subjects"].columns),
    )
    scores = cross(
        subject=(*subjects["subject"],),
        population=("all", "humans"),
        level=("global", "within_excerpt"),
        metric=("pearson_mean", "r2_pooled"),
        dimension=(*NAMES, "mean"),
    ).assign(split="cluster", rule="clean", tuning="fixed", n_seeds=1, seed_sd=None)
    scores = scores.assign(value=unit(scores), share_of_ceiling=0.6, share_low=0.5, share_high=0.7)
    scores = scores.assign(ci_low=scores["value"] - 0.1, ci_high=scores["value"] + 0.1)
    history = cross(
        trial=["tast.reference@smoke"], seed=[0], fold=[0, 1], search_point=["fixed", "wide"], epoch=[0, 1, 2]
    )
    history = history.assign(inner_fold=None, train_loss=unit(history), valid_loss=unit(history), valid_r=unit(history))
    history = history.assign(learning_rate=1e-4, gradient_norm=1.0)
    runs = pd.DataFrame({"trial": trials["trial"], "config": trials["config"], "seed": 0, "part_key": trials["trial"]})
    runs = runs.assign(seconds=[12.0, 30.0, 90.0], device="cpu", precision="float64", peak_memory_mb=900.0)
    runs = runs.assign(code_version=1, data_version="d", environment="{}", hardware="cpu", git_commit=None)
    runs = runs.assign(git_dirty=None, finished_at=pd.Timestamp("2024-01-01", tz="UTC"), status="finished")
    tests = dict.fromkeys(TABLES["tests"].columns) | {
        "comparison": "family",
        "arm": "ridge",
        "reference": "family.reference",
    }
    tests |= {"split": "cluster", "rule": "clean", "population": "all", "level": "global", "metric": "pearson_mean"}
    tests |= {"dimension": "mean", "tuning": "fixed", "estimate": 0.02, "ci_low": -0.01, "ci_high": 0.05, "n_units": 20}
    tests |= {"test": "two_way_t", "is_primary": True, "unit": "clusters", "n_seeds": 5, "verdict": "inconclusive"}
    tests |= dict.fromkeys(("p", "p_holm", "p_bonferroni", "p_bh"), 0.25) | {"margin": 0.02, "mde": 0.03}
    given = {"r2_pooled": 0.5, "r2_pooled_low": 0.4, "r2_pooled_high": 0.6, "pearson_mean": 0.7, "lookup_r2": 0.17}
    given |= {"lookup": SUBJECTS[1], "lookup_r": 0.41, "ceiling_r2": 0.76, "ceiling_r": 0.87, "r2_fold_mean": 0.46}
    published = {"split": "percepiano_performer", "rule": "published", "aggregation": "mean_of_folds"}
    leaderboard = board(
        board_row(CONFIG, rank=1, n_seeds=1, budget="full", **given),
        board_row("family.extra_trees", rank=2, n_seeds=1, budget="full", **(given | {"r2_pooled": 0.45})),
        board_row(SUBJECTS[1], kind="lookup", n_seeds=1, **(given | {"r2_pooled": 0.17, "pearson_mean": 0.41})),
        board_row("Published net", kind="published", r2_fold_mean=0.285, caveat="one fixed test set", **published),
        board_row(SUBJECTS[0], kind="trial", n_seeds=1, **given),
    )
    probed = cross(condition=("white", "pink"), step=(40.0, 20.0, 0.0), metric=("pearson_mean", "pearson_mean_change"))
    clean = pd.DataFrame({"condition": ["clean"], "step": [None], "metric": ["pearson_mean"]})
    probed = pd.concat([clean, probed.assign(condition=probed["condition"])], ignore_index=True)
    probed = probed.assign(subject="forest.reference|0", split="cluster", rule="clean", tuning="tuned", probe="noise")
    probed = probed.assign(population="all", dimension="mean", value=unit(probed), ci_low=0.1, ci_high=1.0)
    told = {"split": "performer", "rule": "clean", "population": "all", "level": "global", "group": "all"}
    support = cross(subject=("adaptation.shift", "adaptation.maml"), step=(1, 5), metric=("pearson_mean", "r2_pooled"))
    support = pd.concat(
        [support, cross(subject=("adaptation.unadapted",), step=(0,), metric=("pearson_mean", "r2_pooled"))]
    )
    change = support[support["step"] > 0].assign(metric=lambda rows: rows["metric"] + "_change")
    adapted = pd.concat([support, change]).assign(curve="support", **told)
    adapted = adapted.assign(value=unit(adapted), ci_low=0.1, ci_high=1.0)
    quarantine = [
        ("midi", "broken.mid", "a file can be read as MIDI", "truncated"),
        ("midi", "empty.mid", "notes", "0"),
    ]
    unlabelled = {"composer": "Composer", "title": "Sonata", "piece": "Composer: Sonata", "content_hash": "h"}
    unlabelled |= {"file": "a.midi", "n_notes": 900, "duration_s": 120.0, "role": "train", "rule": None, "value": None}
    paper = ("Published net", "A paper", "percepiano_performer", "published", "r2_fold_mean", 0.285, None, None, None)
    tables = {
        "clips": clips,
        "quarantine": pd.DataFrame(quarantine, columns=list(TABLES["quarantine"].columns)),
        "pretraining_clips": pd.DataFrame([unlabelled]),
        "ratings": ratings,
        "labels": labels,
        "noise_ceiling": ceiling,
        "splits": splits,
        "leaks": leaks,
        "features": features.assign(value=unit(features)),
        "subjects": subjects,
        "trials": trials,
        **{name: TABLES[name].empty() for name in ("comparisons", "arms", "halted")},
        **{name: TABLES[name].empty() for name in ("calibration", "diagnostics")},
        "robustness": probed,
        "adaptation_curves": adapted,
        "runs": runs,
        "history": history,
        "predictions": predictions,
        "scores": scores,
        "tests": pd.DataFrame([tests]),
        "published": pd.DataFrame([paper], columns=list(TABLES["published"].columns)),
    }
    return {name: conformed(name, frame) for name, frame in tables.items()} | {"leaderboard_trials": leaderboard}


def report_tables(seed: int = 0) -> dict[str, pd.DataFrame]:
    """The tables as the report gets them: the leaderboard without single seeds."""
    tables = small_tables(seed)
    found = tables["leaderboard_trials"]
    return tables | {"leaderboard": found[found["kind"] != "trial"], "leaderboard_trials": found}


def small_snapshot(root: Path) -> Store:
    """A store at `root` (its folder is the corpus) with those tables as parts, and their snapshot."""
    store = Store(root)
    named_by = {"splits": "split", "labels": "rule", "features": "source"}
    for table, frame in small_tables().items():
        for name, rows in frame.groupby(named_by[table]) if table in named_by else [("all", frame)]:
            store.write(table, rows, key="1", name="audio.modal" if name == "audio" else str(name))
    named = store.read("features")[["feature", "source"]].drop_duplicates()
    sets = {n: [f for f, s in named.itertuples(index=False) if has(s, f)] for n, has in FEATURE_SETS.items()}
    build_snapshot(store, all_parts(store), sets)
    return store
