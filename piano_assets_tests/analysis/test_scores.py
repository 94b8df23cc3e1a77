"""The table of scores against scipy and sklearn on the same rows, limits, and a simulated coverage."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import r2_score

from piano_assets.analysis.evaluate import MIN_CLIPS, centred_within
from piano_assets.analysis.panel import PredictionError
from piano_assets.analysis.scores import score_table
from piano_assets.analysis.share import with_share
from piano_assets.dimensions import NAMES
from piano_assets.schemas import TABLES
from piano_assets_tests.analysis import world

RNG = np.random.default_rng(3)
CLIPS = world.clips()
LABELS, VALUE = world.labels(CLIPS, RNG)
SPLITS = world.splits(CLIPS)
PRED = [(0.5 * VALUE + 0.25 + RNG.normal(0, 0.05, VALUE.shape)).astype(np.float32) for _ in range(2)]
LOOKUP = np.full(VALUE.shape, 0.5)
KEYS = ["subject", "rule", "population", "level", "metric", "dimension"]


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    predictions = pd.concat(
        [
            world.predict("m|0", SPLITS, CLIPS, PRED[0], repeats=(0,)),
            world.predict("m|1", SPLITS, CLIPS, PRED[1], repeats=(1,)),
            world.predict("lookup.global", SPLITS, CLIPS, LOOKUP),
            world.predict("lookup.global@published", SPLITS, CLIPS, LOOKUP),
            world.predict("mean", SPLITS, CLIPS, (PRED[0] + PRED[1]) / 2),
        ]
    )
    weights = pd.DataFrame({"ensemble": "mean", "split": "cluster", "member": ["m|0", "m|1"]})
    ceiling = pd.DataFrame(
        {
            "method": "split_half",
            "rule": "clean",
            "population": "all",
            "level": "global",
            "dimension": [*NAMES, "mean"],
            "reliability": 0.81,
            "ci_low": 0.7,
            "ci_high": 0.85,
            "max_r": 0.9,
            "max_r2": 0.81,
        }
    )
    return score_table(
        predictions,
        LABELS,
        CLIPS,
        SPLITS,
        world.subjects("m|0", "m|1", "lookup.global", "lookup.global@published", "mean"),
        world.trials(m=world.TABULAR),
        ceiling=ceiling,
        ensemble_weights=weights,
    )


def value(table: pd.DataFrame, *key: str, column: str = "value") -> float:
    return table.set_index(KEYS)[column].at[key]


def test_conforms(table):
    TABLES["scores"].conform(table)


def test_pooled_metrics_are_sklearn_and_scipy(table):
    def got(metric, dimension="mean", population="all"):
        return value(table, "m|0", "clean", population, "global", metric, dimension)

    r = [stats.pearsonr(p, t)[0] for p, t in zip(PRED[0].T.astype(float), VALUE.T, strict=True)]
    assert got("pearson_mean") == pytest.approx(np.mean(r), rel=1e-10)
    assert got("pearson_mean", NAMES[4]) == pytest.approx(r[4], rel=1e-10)
    assert got("r2_pooled") == pytest.approx(r2_score(VALUE, PRED[0]), rel=1e-10)
    human = ~CLIPS["deadpan"].to_numpy()
    assert got("r2_pooled", population="humans") == pytest.approx(r2_score(VALUE[human], PRED[0][human]), rel=1e-10)


def test_fold_mean_is_sklearn_fold_by_fold(table):
    tested = SPLITS[(SPLITS["repeat"] == 0) & (SPLITS["role"] == "test")].set_index("clip")["fold"]
    fold = tested[CLIPS["clip"]].to_numpy()
    want = np.mean([r2_score(VALUE[fold == k], PRED[0][fold == k]) for k in range(4)])
    assert value(table, "m|0", "clean", "all", "global", "r2_fold_mean", "mean") == pytest.approx(want, rel=1e-10)


def test_within_excerpt_centres_both_sides(table):
    human = ~CLIPS["deadpan"].to_numpy()
    excerpt = CLIPS["excerpt"][human]
    centred = [pd.DataFrame(x[human].astype(float)).groupby(excerpt.to_numpy()).transform(lambda c: c - c.mean())
               for x in (PRED[0], VALUE)]  # fmt: skip
    want = np.mean([stats.pearsonr(centred[0][d], centred[1][d])[0] for d in range(19)])
    got = value(table, "m|0", "clean", "humans", "within_excerpt", "pearson_mean", "mean")
    assert got == pytest.approx(want, rel=1e-10)


def test_an_arm_is_the_mean_of_its_seeds_and_beaten_by_their_ensemble(table):
    key = ("clean", "all", "global", "pearson_mean", "mean")
    seeds = [value(table, f"m|{s}", *key) for s in (0, 1)]
    assert value(table, "m", *key) == pytest.approx(np.mean(seeds), rel=1e-12)
    assert value(table, "m", *key, column="n_seeds") == 2
    assert value(table, "m", *key, column="seed_sd") == pytest.approx(np.std(seeds, ddof=1), rel=1e-10)
    assert np.isnan(value(table, "m|0", *key, column="seed_sd"))
    assert value(table, "mean", *key) > max(seeds)


def test_an_interval_over_seeds_is_narrower_than_each(table):
    key = ("clean", "all", "global", "pearson_mean", "mean")

    def width(subject):
        return value(table, subject, *key, column="ci_high") - value(table, subject, *key, column="ci_low")

    # Independent errors of two seeds: averaging their influence removes half of their variance.
    assert 0 < width("m") < min(width("m|0"), width("m|1"))


def test_a_lookup_is_scored_by_the_rule_it_learnt_and_a_constant_has_no_correlation(table):
    rules = table.groupby("subject")["rule"].agg(set).to_dict()
    assert rules.pop("lookup.global@published") == {"published"}
    assert all(found == {"clean"} for found in rules.values())
    assert np.isnan(value(table, "lookup.global", "clean", "all", "global", "pearson_mean", "mean"))
    got = value(table, "lookup.global", "clean", "all", "global", "r2_pooled", "mean")
    assert got == pytest.approx(r2_score(VALUE, LOOKUP))
    # Published labels lack the first clip: it is predicted, and not scored.
    got = value(table, "lookup.global@published", "published", "all", "global", "r2_pooled", "mean")
    assert got == pytest.approx(r2_score(VALUE[1:], LOOKUP[1:]))


def test_share_of_ceiling_where_it_is_defined(table):
    key = ("m", "clean", "all", "global")
    r = value(table, *key, "pearson_mean", "mean")
    assert value(table, *key, "pearson_mean", "mean", column="share_of_ceiling") == pytest.approx(r / 0.9)
    r2 = value(table, *key, "r2_pooled", NAMES[0])
    assert value(table, *key, "r2_pooled", NAMES[0], column="share_of_ceiling") == pytest.approx(r2 / 0.81)
    rest = table[~table["metric"].isin(["pearson_mean", "r2_pooled"]) | (table["population"] == "humans")]
    assert rest[["share_of_ceiling", "share_low", "share_high"]].isna().to_numpy().all()


def test_the_interval_of_a_share_knows_the_ceilings_uncertainty(table):
    """Against quantiles of drawn ratios: r and its ceiling's root, R2 and its reliability, each with its own spread."""
    rng, n = np.random.default_rng(4), 400_000
    for metric, (ceiling, low, high) in {
        "pearson_mean": (0.9, 0.9 * (0.7 / 0.81) ** 0.5, 0.9 * (0.85 / 0.81) ** 0.5),
        "r2_pooled": (0.81, 0.7, 0.85),
    }.items():
        key = ("m", "clean", "all", "global", metric, "mean")
        got = [value(table, *key, column=c) for c in ("share_low", "share_of_ceiling", "share_high")]
        assert got[0] < got[1] < got[2]
        # The ceiling's interval is skewed; each end tells the spread on its own side.
        score, half = value(table, *key), value(table, *key, column="ci_high") - value(table, *key)
        for end, side in ((got[0], high - ceiling), (got[2], ceiling - low)):
            drawn = (score + half / 1.96 * rng.standard_normal(n)) / (ceiling + side / 1.96 * rng.standard_normal(n))
            # 400,000 draws: a tail quantile errs by .4 % of the spread (one sd); four of them.
            want = np.quantile(drawn, 0.025 if end < got[1] else 0.975)
            assert end == pytest.approx(want, abs=0.016 * drawn.std())


def shares(ends: tuple[float | None, float | None], reliability: float = 0.81) -> pd.DataFrame:
    keys = {"rule": "clean", "population": "all", "level": "global", "dimension": "mean"}
    scored = {"metric": ["pearson_mean", "r2_pooled", "mse"], "value": [0.6, 0.3, 0.3]}
    scored |= {"ci_low": [0.5, -0.1, 0.2], "ci_high": [0.7, 0.7, 0.4]}
    bound = {"reliability": reliability, "ci_low": ends[0], "ci_high": ends[1], "max_r": 0.9, "max_r2": 0.81}
    bounds = pd.DataFrame([keys | {"method": "split_half"} | bound, keys | {"method": "anova_icc"} | bound])
    return with_share(pd.DataFrame(scored).assign(**keys), bounds)


def test_a_certain_ceiling_divides_the_interval():
    got = shares((0.81, 0.81))
    want = [[0.6 / 0.9, 0.5 / 0.9, 0.7 / 0.9], [0.3 / 0.81, -0.1 / 0.81, 0.7 / 0.81]]
    np.testing.assert_allclose(got[["share_of_ceiling", "share_low", "share_high"]][:2], want, rtol=1e-10)
    assert got.loc[2, ["share_of_ceiling", "share_low", "share_high"]].isna().all()


def test_an_uncertain_ceiling_widens_it():
    sure, unsure = shares((0.81, 0.81)), shares((0.7, 0.9))
    assert (unsure["share_low"] < sure["share_low"])[:2].all()
    assert (unsure["share_high"] > sure["share_high"])[:2].all()
    np.testing.assert_array_equal(unsure["share_of_ceiling"], sure["share_of_ceiling"])


@pytest.mark.parametrize("ends", [(np.nan, np.nan), (-0.05, 0.9)], ids=["no interval", "agreement may be none"])
def test_a_ceiling_of_unknown_height_leaves_the_share_without_an_interval(ends):
    got = shares(ends)
    assert got["share_of_ceiling"][:2].notna().all()
    assert got[["share_low", "share_high"]].isna().to_numpy().all()


def test_an_interval_that_misses_its_own_estimate_is_stretched_to_it():
    """Bootstrap percentiles of a skewed quantity may do so; the ratio's interval still holds the ratio."""
    got = shares((0.82, 0.86))
    assert (got["share_low"] < got["share_of_ceiling"])[:2].all()
    np.testing.assert_allclose(got["share_high"][:2], [0.7 / 0.9, 0.7 / 0.81], rtol=1e-10)


def test_metrics_without_influence_have_no_interval(table):
    trained = table[(table["subject"] == "m") & (table["level"] == "global")]
    assert set(trained[trained["ci_low"].isna()]["metric"]) == {"wasserstein", "ks"}
    within = table[(table["subject"] == "m") & (table["level"] == "within_excerpt")]
    assert set(within[within["ci_low"].isna()]["metric"]) == {"spearman_mean", "top3_accuracy"}


def test_incomplete_seeds_do_not_enter(table):
    predictions = pd.concat(
        [
            world.predict("m|0", SPLITS, CLIPS, PRED[0], repeats=(0,)),
            world.predict("m|1", SPLITS, CLIPS, PRED[1], repeats=(1,)).iloc[:-1],
        ]
    )
    got = score_table(predictions, LABELS, CLIPS, SPLITS, world.subjects("m|0", "m|1"), world.trials(m=world.TABULAR))
    assert set(got["subject"]) == {"m", "m|0"}
    assert (got["n_seeds"] == 1).all()


def test_a_missing_fold_is_never_averaged_over():
    whole = world.predict("m|0", SPLITS, CLIPS, PRED[0], repeats=(0,))
    args = (LABELS, CLIPS, SPLITS, world.subjects("m|0"), world.trials(m=world.TABULAR))
    assert score_table(whole[whole["fold"] != 2], *args).empty


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: pd.concat([p, p[p["clip"] == "c0e0p0"]]), r"'m\|0', split 'cluster', repeat 0.*19 values .*twice"),
        (lambda p: p.assign(value=p["value"].mask(p["clip"] == "c0e0p0")), r"'m\|0', split 'cluster'.*19 .*not finite"),
        (
            lambda p: p.assign(dimension=p["dimension"].replace(NAMES[0], "x")),
            r"'m\|0', split 'cluster'.*112 .*unknown",
        ),
    ],
)
def test_broken_predictions_are_refused(change, message):
    predictions = change(world.predict("m|0", SPLITS, CLIPS, PRED[0], repeats=(0,)))
    with pytest.raises(PredictionError, match=message):
        score_table(predictions, LABELS, CLIPS, SPLITS, world.subjects("m|0"), world.trials(m=world.TABULAR))


def test_fewer_than_two_labelled_clips_have_no_scores():
    predictions = world.predict("m|0", SPLITS, CLIPS, PRED[0], repeats=(0,))
    lone = LABELS[LABELS["clip"] == "c0e0p0"]
    table = score_table(predictions, lone, CLIPS, SPLITS, world.subjects("m|0"), world.trials(m=world.TABULAR))
    assert table.empty
    assert list(table.columns) == list(TABLES["scores"].columns)


def test_unknown_subjects_are_refused():
    predictions = world.predict("m|0", SPLITS, CLIPS, PRED[0], repeats=(0,))
    with pytest.raises(ValueError, match=r"'m\|0'.*no row in the table subjects"):
        score_table(predictions, LABELS, CLIPS, SPLITS, world.subjects("x|0"), world.trials(m=world.TABULAR))
    with pytest.raises(ValueError, match="config 'm' has no row in the table trials"):
        score_table(predictions, LABELS, CLIPS, SPLITS, world.subjects("m|0"), world.trials(x=world.TABULAR))


def test_centring_makes_constant_groups_exactly_zero():
    group = np.array([0, 0, 0, 1, 1])
    got = centred_within(np.array([[0.1], [0.1], [0.1], [1.0], [3.0]]), group)
    np.testing.assert_array_equal(got[:, 0], [0, 0, 0, -1, 1])


def test_small_excerpts_stay_out_of_within_excerpt():
    small = CLIPS[~((CLIPS["excerpt"] == "c0e0") & (CLIPS["performer"].isin(["p0", "p1", "p2"])))].reset_index(
        drop=True
    )
    assert (small["excerpt"] == "c0e0").sum() == MIN_CLIPS - 1
    kept = CLIPS["clip"].isin(small["clip"]).to_numpy()
    splits = SPLITS[SPLITS["clip"].isin(small["clip"])]
    labels = LABELS[LABELS["clip"].isin(small["clip"])]
    args = (world.subjects("m|0"), world.trials(m=world.TABULAR))

    def score(pred):
        predictions = world.predict("m|0", splits, small, pred, repeats=(0,))
        frame = score_table(predictions, labels, small, splits, *args)
        return value(frame, "m|0", "clean", "all", "within_excerpt", "mse", "mean")

    pred = PRED[0][kept].copy()
    before = score(pred)
    pred[(small["excerpt"] == "c0e0").to_numpy()] = RNG.random((MIN_CLIPS - 1, 19))
    assert score(pred) == before


def test_intervals_cover_the_truth():
    """The intervals of mean r and rho around known population correlations.

    Labels with cluster and performer effects, 300 draws; r is known from the variances: .8, and rho of two Gaussians is
    6 / pi arcsin(r / 2) (Kruskal 1958, JASA 53:814). Nominal 95 % with 7 groups is approximate: a coverage of 90 to
    99 % is asked for. (Binomial standard error 1.3 points.)
    """
    from piano_assets.analysis.evaluate import average, judge
    from piano_assets.analysis.panel import Block, Units
    from piano_assets.analysis.scores import intervals

    clips = world.clips(30, 20)
    codes = [pd.factorize(clips[c])[0] for c in ("excerpt", "cluster", "performer")]
    rng, draws, n = np.random.default_rng(12), 300, len(clips)
    truth = {"pearson_mean": 0.8, "spearman_mean": 6 / np.pi * np.arcsin(0.8 / 2)}
    hits = dict.fromkeys(truth, 0)

    def effects():
        parts = [rng.normal(size=(k, 19))[c] for k, c in ((30, codes[1]), (20, codes[2]))] + [rng.normal(size=(n, 19))]
        return sum(parts) / np.sqrt(3)

    for _ in range(draws):
        target = effects()
        pred = 0.8 * target + 0.6 * effects()
        known = Units(pd.Index(clips["clip"]), ~clips["deadpan"].to_numpy(), *codes, {"clean": target})
        block = Block("m", "s", "fixed", 0, np.zeros(n, int), np.arange(n), pred)
        mean = average([judge(block, known, "clean", "all", "global", list(truth))])
        low, high = intervals(mean, known)
        for metric, of in truth.items():
            hits[metric] += low[metric][-1] < of < high[metric][-1]
    assert all(0.90 <= hit / draws <= 0.99 for hit in hits.values()), hits


def test_a_clip_that_several_folds_test_counts_with_all_its_rows():
    """PercePiano's fixed test sets: the same predictions twice say what they say once, and move as much."""
    from piano_assets.analysis.evaluate import judge
    from piano_assets.analysis.panel import Block, units

    known, n = units(CLIPS, LABELS), len(CLIPS)
    once = Block("m|0", "s", "fixed", 0, np.zeros(n, int), np.arange(n), PRED[0].astype(float))
    twice = Block("m|0", "s", "fixed", 0, np.repeat([0, 1], n), np.tile(np.arange(n), 2), np.tile(once.pred, (2, 1)))
    metrics = ["pearson_mean", "spearman_mean", "r2_pooled", "mse"]
    a, b = (judge(block, known, "clean", "all", "global", metrics) for block in (once, twice))
    for metric in metrics:
        np.testing.assert_allclose(b.value[metric], a.value[metric], rtol=1e-10)
        np.testing.assert_allclose(b.contribution[metric], a.contribution[metric], atol=1e-13)


def test_an_interval_rests_on_scores_computed_anew_without_each_group():
    """R2 of sklearn without each cluster, performer and pair of both: V_cluster + V_performer - V_both, floored."""
    from scipy.stats import t as student
    from sklearn.metrics import r2_score

    from piano_assets.analysis.evaluate import judge
    from piano_assets.analysis.panel import Block, units
    from piano_assets.analysis.scores import intervals
    from piano_assets.statistics.clustered import degrees_of_freedom

    known, n = units(CLIPS, LABELS), len(CLIPS)
    pred, target = PRED[0].astype(float), known.labels["clean"]
    judged = judge(Block("m|0", "s", "fixed", 0, np.zeros(n, int), np.arange(n), pred), known, "clean", "all", "global")
    low, high = (ends["r2_pooled"][-1] for ends in intervals(judged, known))

    def variance(codes: np.ndarray) -> float:
        groups, whole = np.unique(codes), r2_score(target, pred)
        lost = [whole - r2_score(target[codes != g], pred[codes != g]) for g in groups]
        return (len(groups) - 1) / len(groups) * sum(x**2 for x in lost)

    pairs = known.cluster * 1000 + known.performer
    both, player, music = variance(pairs), variance(known.performer), variance(known.cluster)
    se = np.sqrt(max(music + player - both, min(music, player)))
    wanted = student.ppf(0.975, degrees_of_freedom(known.cluster, known.performer)) * se
    np.testing.assert_allclose((high - low) / 2, wanted, rtol=1e-8)
