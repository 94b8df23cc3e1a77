"""The catalogue: complete, one difference an arm, equal search for all, one config a trial."""

import inspect
import json
import re

import pytest

from piano_assets.catalogue.comparison import Comparison, arm_trials
from piano_assets.catalogue.comparisons import COMPARISONS, at_budget, built_in
from piano_assets.catalogue.references import N_POINTS, NEURAL_SEARCH, REFERENCES
from piano_assets.catalogue.tables import arm_table, comparison_table, trial_table
from piano_assets.catalogue.trial import Encoder, IllegalTrial, Tabular
from piano_assets.schemas import TABLES

KNOWN = built_in()
BY_NAME = {c.name: c for c in COMPARISONS}
STRENGTHS, PARTS = ("light", "medium", "heavy"), ("spec_augment", "mixup", "time_stretch", "pitch_shift")

OWED = {
    "augmentation_strength": [
        *STRENGTHS,
        *(f"{s}_{part}" for s in STRENGTHS for part in (*PARTS, "preserving")),
        *("heavy_rerendered", "heavy_c_mixup"),
    ],
    "augmentation_factor": [f"x{n}_{regime}" for n in (2, 3, 5, 8, 10) for regime in ("steps", "epochs")],
    "split_strategy": [
        *("random", "founding", "excerpt", "cluster", "performer", "percepiano_performer", "composer", "temporal"),
        *("stratified_difficulty", "leave_one_performer_out", "holdout", "nested"),
    ],
    "model_size": ["tiny", "small", "medium", "base", "size_5m", "size_10m", "size_15m", "size_20m"],
    "patch_size": ["8", "12", "20", "24", "32"],
    "attention": ["local", "linear_performer", "linear_linformer", "sparse", "multi_scale"],
    "hybrid": [
        *(f"{f}_{s}" for f in ("concat", "gated", "late") for s in ("all_traditional", "symbolic", "all")),
        "tabular_only",
    ],
    "family": [
        *("ast", "hybrid", "note_transformer", "random_forest", "random_forest_founding", "extra_trees"),
        *("gradient_boosting", "kernel_ridge", "ridge"),
    ],
    "feature_set": [
        *("spectral_only", "mfcc_only", "temporal_only", "harmonic_only", "all_traditional", "symbolic", "all"),
        *("top_k_10", "top_k_20", "top_k_40"),
    ],
    "spectrogram": ["mel_128", "mel_256", "log_mel_128_8k", "cqt", "multi_resolution"],
    "loss": ["correlation", "concordance", "ranking", "combined", "huber", "focal_mse", "rater_weighted"],
    "schedule": ["constant", "cosine", "step", "reduce_on_plateau", "one_cycle"],
    "regularisation": [
        *("heavy_dropout", "label_smoothing", "label_smoothing_spread", "mixup_cutmix"),
        *("spectral_norm", "stochastic_depth"),
    ],
    "ensemble_members": [
        *("single", "boosting", "snapshot", "views"),
        *(f"replicate_{k}" for k in range(1, 5)),
        *(f"resample_{k}" for k in range(1, 6)),
    ],
    "mixed_members": ["ridge", "kernel_ridge", "extra_trees", "gradient_boosting", "mlp", "mlp_all"],
}
SEARCH_NOTHING = ("literature", "ensemble_members", "mixed_members")
"""The first repeats settings; of the others it is asked what several do together, not how well each is tuned."""
"""Every arm that the plan names."""


def trial(comparison: str, arm: str):
    return KNOWN.arms(BY_NAME[comparison])[arm][1]


@pytest.mark.parametrize("comparison", OWED)
def test_nothing_that_is_owed_is_missing(comparison):
    assert set(OWED[comparison]) <= set(BY_NAME[comparison].arms)


def test_comparisons_run_against_the_references_that_the_plan_names():
    wanted = {
        "feature_set": "forest.reference",
        "feature_set_hybrid": "hybrid.reference",
        "spectrogram": "ast.reference",
    }
    wanted |= {
        "regularisation": "regularisation.reference",
        "loss": "ast.reference",
        "split_strategy_ast": "ast.reference",
    }
    assert {name: BY_NAME[name].reference for name in wanted} == wanted
    assert REFERENCES["regularisation.reference"].model.dropout == 0.1


def test_every_comparison_says_what_it_claims_and_what_it_takes():
    assert len(BY_NAME) == len(COMPARISONS), "names are unique"
    for comparison in COMPARISONS:
        assert comparison.hypothesis.endswith(".")
        assert comparison.budget_note.endswith((".", ")."))
        assert set(comparison.claims) | comparison.needs_gpu <= set(comparison.arms)


def test_names_fit_partition_keys_and_files():
    for comparison in COMPARISONS:
        for name in (comparison.name, *comparison.arms):
            assert re.fullmatch("[a-z0-9_]+", name), name


def test_no_two_configs_own_the_same_trial():
    trials = KNOWN.trials
    assert len({t.key for t in trials.values()}) == len(trials)
    assert all("|" not in config and "," not in config for config in trials)


def test_every_config_exists_at_every_budget_that_its_model_knows():
    """Under its own name, or under that of another config which without its search is the same trial."""
    stand = {t.key for t in KNOWN.trials.values()}
    for config, full in KNOWN.full.items():
        for budget in ("reduced", "smoke"):
            if full.optimisation is None and budget == "reduced":
                assert f"{config}@reduced" not in KNOWN.trials, "beside reduced networks tabular models stand in full"
                continue
            _, at = at_budget(config, full, budget)
            assert at.key in stand, (config, budget)
            assert (at.budget, at.search) == (budget, ()), "small budgets search nothing"


@pytest.mark.parametrize("comparison", COMPARISONS, ids=lambda c: c.name)
def test_every_arm_changes_exactly_its_declared_fields(comparison: Comparison):
    for arm, declared in comparison.arms.items():
        changed = KNOWN.changed_fields(comparison, arm)
        assert all(any(f == d or f.startswith(d + ".") for d in declared) for f in changed), (arm, changed)
        # A declared field may keep its value where the plan spells a whole model out; the arm as a whole may not.
        assert bool(changed) == bool(declared), "an arm without changes is the reference, and only such an arm"


@pytest.mark.parametrize("comparison", COMPARISONS, ids=lambda c: c.name)
def test_an_arm_that_equals_its_reference_owns_no_partition(comparison: Comparison):
    for arm, (config, mine) in KNOWN.arms(comparison).items():
        assert (config == comparison.reference) == (mine == KNOWN.full[comparison.reference]), arm


def test_an_arm_goes_by_the_config_of_its_twin():
    """The medium parts that keep labels true are the reference of the augmentation factor."""
    assert KNOWN.arms(BY_NAME["augmentation_strength"])["medium_preserving"][0] == "augmentation.reference"
    assert KNOWN.arms(BY_NAME["hybrid"])["gated_all_traditional"][0] == "hybrid.reference"
    assert KNOWN.arms(BY_NAME["family"])["ast"][0] == "ast.reference"


@pytest.mark.parametrize("comparison", [c for c in COMPARISONS if c.name not in SEARCH_NOTHING], ids=lambda c: c.name)
def test_every_arm_gets_an_equal_search(comparison: Comparison):
    """Four points each, the model's own value among them."""
    from piano_assets.models.tabular import REGRESSORS

    for arm, (_, mine) in KNOWN.arms(comparison).items():
        if isinstance(mine.model, Encoder):
            assert mine.search == NEURAL_SEARCH, arm
            assert mine.optimisation.learning_rate in NEURAL_SEARCH[0][1]
            continue
        ((field, values),) = mine.search
        assert len(values) == len(set(values)) == N_POINTS, arm
        own = inspect.signature(REGRESSORS[mine.model.regressor]).parameters[field.removeprefix("model.settings.")]
        assert own.default in values, f"{arm}: {field}={own.default} is not on the grid {values}"


def count(model: Encoder, n_bands: int = 128) -> int:
    """Parameters of a spectrogram transformer by hand: patches, bands, blocks (norms, qkv, out, MLP), norm, head."""
    d, inner, hidden = model.dim, model.heads * model.head_dim, round(model.dim * model.mlp_ratio)
    block = 4 * d + (d + 1) * 3 * inner + (inner + 1) * d + (d + 1) * hidden + (hidden + 1) * d
    patches = (model.patch_size**2 + 1) * d + -(-n_bands // model.patch_size) * d
    return patches + model.depth * block + 2 * d + (d + 1) * 19


def test_sizes_as_meant_have_the_parameters_that_are_claimed():
    claims = BY_NAME["model_size"].claims
    for arm in ("size_5m", "size_10m", "size_15m", "size_20m"):
        assert count(trial("model_size", arm).model) == pytest.approx(claims[arm], rel=0.02)
    written = {arm: count(trial("model_size", arm).model) for arm in ("ultra_tiny", "tiny", "small", "medium", "base")}
    assert written == {"ultra_tiny": 1654547, "tiny": 4223427, "small": 8984851, "medium": 19060755, "base": 85274131}
    assert all(written[arm] < claims[arm] for arm in written), "what the plan writes is smaller than it claims"


@pytest.mark.parametrize("arm", ["ultra_tiny", "tiny", "base", "size_15m"])
def test_the_count_by_hand_is_that_of_the_network(arm):
    from piano_assets.models.network import Shape, n_params

    model = trial("model_size", arm).model
    assert n_params(model, Shape(width=128, crop=500)) == count(model)


def test_the_models_that_the_plan_writes():
    """Depth, width, heads, MLP ratio, dropout: catalogue, B1."""
    want = {"tiny": (4, 320, 6, 3, 0.3), "small": (6, 384, 8, 3, 0.2), "medium": (6, 512, 8, 4, 0.2)}
    want |= {"ultra_tiny": (3, 256, 4, 2, 0.4), "base": (12, 768, 12, 4, 0.1)}
    for arm, shape in want.items():
        m = trial("model_size", arm).model
        assert (m.depth, m.dim, m.heads, m.mlp_ratio, m.dropout) == shape


def test_a_network_tests_its_size_alone_where_sizes_are_as_meant():
    for arm in ("size_5m", "size_10m", "size_15m", "size_20m"):
        changed = set(KNOWN.changed_fields(BY_NAME["model_size"], arm))
        assert changed <= {"model.depth", "model.dim", "model.heads", "model.mlp_ratio"}


def test_what_bends_tempo_or_pitch_changes_labels():
    marked = arm_table(KNOWN).query("label_changing")
    # Transposed copies and views are the other arms that alter notes.
    transposed = marked["arm"].str.contains("transposed")
    assert set(marked.loc[transposed, "comparison"].str.removesuffix("@reduced")) == {
        "ensemble_members",
        "mixed_members",
    }
    marked = marked[~transposed]
    assert set(marked["comparison"]) == {"augmentation_strength", "augmentation_strength@reduced"}
    bending = {a for a in OWED["augmentation_strength"] if not a.endswith(("spec_augment", "mixup", "preserving"))}
    assert set(marked["arm"]) == bending


def test_augmentation_at_the_strengths_that_the_plan_names():
    heavy = trial("augmentation_strength", "heavy").augmentation
    assert (heavy.spec_augment, heavy.mixup, heavy.time_stretch, heavy.pitch_shift) == (0.7, 0.5, 0.2, 3)
    light = trial("augmentation_strength", "light").augmentation
    assert (light.spec_augment, light.mixup, light.time_stretch, light.pitch_shift) == (0.3, 0.2, 0.05, 1)
    for n in (2, 10):
        steps, epochs = (trial("augmentation_factor", f"x{n}_{r}").augmentation for r in ("steps", "epochs"))
        assert (steps.factor, steps.longer, epochs.factor, epochs.longer) == (n, False, n, True)
        assert (steps.spec_augment, steps.mixup, steps.bends_sound) == (0.5, 0.3, False)


def test_a_misspelt_arm_names_comparison_and_arm():
    wrong = Comparison("loss", "h", "ast.reference", {"huber": {"optimisation.los": "huber"}})
    with pytest.raises(IllegalTrial, match=r"loss\.huber: unknown field optimisation\.los \(is 'huber'\)"):
        arm_trials(wrong, REFERENCES)
    with pytest.raises(IllegalTrial, match=r"loss: unknown reference 'asst.reference'; known: \['ast.reference'"):
        arm_trials(Comparison("loss", "h", "asst.reference"), REFERENCES)


def test_tables_of_the_catalogue_keep_their_declarations():
    frames = {
        "trials": trial_table(KNOWN.trials),
        "comparisons": comparison_table(KNOWN),
        "arms": arm_table(KNOWN),
    }
    for name, frame in frames.items():
        assert TABLES[name].conform(frame).num_rows == len(frame) > 0
    assert set(frames["arms"]["config"]) <= set(frames["trials"]["config"])
    assert set(frames["comparisons"]["reference"]) <= set(frames["trials"]["config"])
    assert set(frames["arms"]["comparison"]) == set(frames["comparisons"]["comparison"])


def test_a_comparison_at_reduced_has_networks_at_reduced_and_tabular_arms_in_full():
    named = comparison_table(KNOWN).set_index("comparison")
    arms = arm_table(KNOWN).set_index(["comparison", "arm"])["config"]
    assert "feature_set@reduced" not in named.index, "no network, no second budget"
    assert named.loc["loss@reduced", ["reference", "budget"]].tolist() == ["ast.reference@reduced", "reduced"]
    assert arms["loss@reduced", "huber"] == "loss.huber@reduced"
    assert arms["family@reduced", "ridge"] == arms["family", "ridge"] == "family.ridge"
    assert arms["family@reduced", "ast"] == "ast.reference@reduced"
    assert named.loc["family@reduced", "reference"] == "family.reference"


def test_within_a_comparison_networks_share_one_budget():
    trials = {t.config: json.loads(t.trial_json) for t in trial_table(KNOWN.trials).itertuples()}
    for _, arms in arm_table(KNOWN).groupby("comparison"):
        budgets = {trials[c]["budget"] for c in arms["config"] if trials[c]["optimisation"]}
        assert len(budgets) <= 1


def test_protocols_are_compared_untested():
    assert {c.name for c in COMPARISONS if not c.tested} == {"split_strategy", "split_strategy_ast", "literature"}
    assert all(isinstance(t.model, Tabular) for _, t in KNOWN.arms(BY_NAME["split_strategy"]).values())
