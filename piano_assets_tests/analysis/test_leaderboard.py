"""The leaderboard: order, ranks, what is not ranked, and what stands beside every number."""

import numpy as np
import pandas as pd
import pytest

from piano_assets.analysis.leaderboard import leaderboard
from piano_assets.analysis.panel import completeness, units
from piano_assets.analysis.published import published_table
from piano_assets.analysis.scores import score_table
from piano_assets.analysis.subjects import subject_table
from piano_assets.corpus.splits import SPLITS as KNOWN_SPLITS
from piano_assets.schemas import TABLES
from piano_assets_tests.analysis import world

RNG = np.random.default_rng(8)
CLIPS = world.clips()
LABELS, VALUE = world.labels(CLIPS, RNG)
SPLITS = pd.concat([world.splits(CLIPS), world.splits(CLIPS, name="excerpt")])


def noisy(spread: float) -> np.ndarray:
    return (VALUE + RNG.normal(0, spread, VALUE.shape)).astype(np.float32)


def seeds(config: str, spread: float, split: str = "cluster", repeats=(0, 1)) -> list[pd.DataFrame]:
    rows = SPLITS[SPLITS["split"] == split]
    return [world.predict(f"{config}|{r}", rows, CLIPS, noisy(spread), repeats=(r,)) for r in repeats]


@pytest.fixture(scope="module")
def board() -> pd.DataFrame:
    cluster = SPLITS[SPLITS["split"] == "cluster"]
    predictions = pd.concat(
        [
            *seeds("a.good", 0.05),
            *seeds("a.better", 0.04),
            *seeds("a.lucky", 0.01, repeats=(0,)),
            *seeds("a.half", 0.03)[:1],
            seeds("a.half", 0.03)[1].iloc[:-1],
            seeds("a.none", 0.03)[0].iloc[:-1],
            *seeds("n.net@smoke", 0.01),
            *seeds("l.forest", 0.05, "excerpt"),
            world.predict("lookup.worse", cluster, CLIPS, noisy(0.2)),
            world.predict("lookup.best", cluster, CLIPS, noisy(0.12)),
            world.predict("lookup.best@published", SPLITS[SPLITS["split"] == "excerpt"], CLIPS, noisy(0.1)),
        ]
    )
    trials = world.trials(
        **dict.fromkeys(("a.good", "a.better", "a.lucky", "a.half", "a.none"), world.TABULAR),
        **{
            "n.net@smoke": world.varied(world.NEURAL, budget="smoke"),
            "l.forest": world.varied(world.TABULAR, split="excerpt", label_rule="published"),
        },
    )
    ceiling = pd.DataFrame(
        {
            "method": "split_half",
            "rule": ["clean", "published"],
            "population": "all",
            "level": "global",
            "dimension": "mean",
            "reliability": [0.81, 0.77],
            "ci_low": 0.7,
            "ci_high": 0.85,
            "max_r": [0.9, 0.88],
            "max_r2": [0.81, 0.77],
        }
    )
    published = published_table()
    subjects = subject_table(predictions["subject"], trials, published)
    TABLES["subjects"].conform(subjects)
    scores = score_table(predictions, LABELS, CLIPS, SPLITS, subjects, trials, ceiling=ceiling)
    checked = completeness(predictions, SPLITS, units(CLIPS, LABELS))
    aggregation = {name: split.aggregation for name, split in KNOWN_SPLITS.items()}
    return leaderboard(scores, subjects, trials, published, ceiling, checked, aggregation)


def test_conforms(board):
    TABLES["leaderboard_trials"].conform(board)


def test_best_first_and_only_fair_ones_ranked(board):
    cluster = board[(board["split"] == "cluster") & (board["kind"] != "trial")].set_index("subject")
    assert cluster["rank"].dropna().to_dict() == {"a.better": 1, "a.good": 2}
    caveats = cluster["caveat"].dropna().to_dict()
    assert caveats.pop("a.lucky") == "1 of 2 repeats: not ranked"
    assert caveats.pop("a.half") == "incomplete: not ranked; 1 of 2 repeats: not ranked"
    assert caveats.pop("n.net@smoke").startswith("smoke budget")
    assert caveats == {}
    shown = cluster["r2_pooled"].dropna()
    assert shown.is_monotonic_decreasing


def test_a_subject_of_which_nothing_is_complete_is_still_listed(board):
    row = board.set_index("subject").loc["a.none|0"]
    assert not row["complete"]
    assert np.isnan(row["r2_pooled"])


def test_every_row_carries_lookup_and_ceiling_of_its_own_protocol(board):
    rows = board.set_index("subject")
    assert set(rows[rows["split"] == "cluster"]["lookup"]) == {"lookup.best"}
    assert rows.loc["a.good", "lookup_r2"] == rows.loc["lookup.best", "r2_pooled"]
    assert rows.loc["a.good", ["ceiling_r", "ceiling_r2"]].tolist() == [0.9, 0.81]
    literature = rows.loc["l.forest"]
    assert literature["lookup"] == "lookup.best@published"
    assert literature["lookup_r2"] == rows.loc["lookup.best@published", "r2_fold_mean"]
    assert literature["ceiling_r"] == 0.88


def test_published_results_stand_beside_ours_unranked(board):
    excerpt = board[(board["split"] == "excerpt") & (board["kind"] != "trial")].set_index("subject")
    muq = excerpt.loc["2601.19029 MuQ layers 9-12"]
    assert (muq["r2_fold_mean"], muq["pearson_mean"], muq["aggregation"]) == (0.533, 0.732, "mean_of_folds")
    assert pd.isna(muq["rank"])
    assert "leak" in muq["caveat"]
    assert excerpt.loc["l.forest", "rank"] == 1
    ordered = excerpt["r2_fold_mean"].dropna()
    assert ordered.is_monotonic_decreasing
    assert board["split"].iloc[0] == "cluster"


def test_intervals_stand_beside_our_numbers(board):
    ours = board[board["kind"].isin(["arm", "trial"]) & (board["n_seeds"] > 0)]
    for metric in ("r2_pooled", "pearson_mean", "within_excerpt_r"):
        assert (ours[f"{metric}_low"] < ours[metric]).all()
        assert (ours[metric] < ours[f"{metric}_high"]).all()


def test_unknown_names_are_refused():
    trials = world.trials(a=world.TABULAR)
    with pytest.raises(ValueError, match=r"'b\|0'.*no row in the table trials"):
        subject_table(["b|0"], trials)
    with pytest.raises(ValueError, match="'stranger' is neither"):
        subject_table(["stranger"], trials)
