"""Every validation strategy serves every kind of trial: one tabular trial and one network on each registered split."""

import numpy as np
import pandas as pd
import pytest

from piano_assets.catalogue.trial import Encoder, Inputs, Optimisation, Tabular, Trial
from piano_assets.corpus.leaks import leaks, notes_hashes
from piano_assets.corpus.split_strategies import N_INNER_FOLDS
from piano_assets.corpus.splits import SPLITS, SplitImpossible, make_split
from piano_assets.dimensions import NAMES
from piano_assets.store.parts import Store
from piano_assets.training.run import run_batch
from piano_assets_tests.corpus.small_corpus import clips_and_notes, labels_of, ratings_of

pytestmark = pytest.mark.xdist_group("every_split")  # one worker makes what they share

N_FEATURES = 5
SEARCH = (("model.settings.alpha", (1.0, 100.0)),)


def tabular(split: str, rule: str = "clean") -> Trial:
    model = Tabular(regressor="ridge", settings=(("alpha", 1.0), ("transform", "standard")))
    return Trial(model=model, inputs=Inputs(features="symbolic"), search=SEARCH, split=split, label_rule=rule)


def network(split: str) -> Trial:
    return Trial(
        model=Encoder(depth=1, dim=8, heads=1, head_dim=8, dropout=0.0),
        inputs=Inputs(features="symbolic"),
        optimisation=Optimisation(batch_size=8),
        split=split,
        budget="smoke",
    )


@pytest.fixture(scope="module")
def corpus():
    """132 clips in 10 clusters by two composers: all that any split asks for."""
    clips, notes = clips_and_notes()
    ratings = ratings_of(clips)
    # As in the real corpus, some clips have no published label.
    labels = pd.concat([labels_of(ratings), labels_of(ratings, "published").iloc[3 * len(NAMES) :]])
    return clips, ratings, labels, notes


@pytest.fixture(scope="module")
def store(corpus, tmp_path_factory) -> Store:
    clips, _, labels, notes = corpus
    store = Store(tmp_path_factory.mktemp("small"))
    store.write("clips", clips, key="k")
    for rule, rows in labels.groupby("rule"):
        store.write("labels", rows, key="k", name=rule)
    for name in SPLITS:
        rows = make_split(name, *corpus)
        store.write("splits", rows, key="k", name=name)
        store.write("leaks", leaks(rows, clips, notes_hashes(notes)), key="k", name=name)
    value = np.random.default_rng(0).normal(size=(len(clips), N_FEATURES))
    features = {
        "clip": np.repeat(clips["clip"], N_FEATURES),
        "rendering": "midi",
        "feature": np.tile([f"f{k}" for k in range(N_FEATURES)], len(clips)),
        "value": value.ravel(),
        "source": "symbolic",
    }
    store.write("features", pd.DataFrame(features), key="k", name="symbolic")
    return store


@pytest.mark.parametrize("split", SPLITS)
def test_a_tabular_trial_and_a_network_train_on_it(store, split):
    # A protocol of the literature is run with published labels too: clips without one are predicted all the same.
    rule = "published" if SPLITS[split].aggregation == "mean_of_folds" else "clean"
    items = [(f"tabular.{split}", tabular(split, rule), 0), (f"network.{split}", network(split), 0)]
    rows = store.read("splits", split)
    rows = rows[rows["repeat"] == 0]
    tested = rows[(rows["role"] == "test") & rows["inner_fold"].isna()]
    for result in run_batch(items, store, threads=1):
        assert result.status == "finished"
        found = store.read("predictions", result.part_name)
        assert np.isfinite(found["value"]).all()
        outer = found[found["inner_fold"].isna()]
        for tuning, mine in outer[outer["role"] == "test"].groupby("tuning"):
            assert len(mine) == len(tested) * len(NAMES), tuning
            assert set(zip(mine["fold"], mine["clip"], strict=True)) == set(
                zip(tested["fold"], tested["clip"], strict=True)
            )
        assert sorted(outer["tuning"].unique()) == (["fixed", "tuned"] if "tabular" in result.config else ["fixed"])
        inner = found[found["inner_fold"].notna()]
        want = rows[rows["inner_fold"].notna() & (rows["role"] == "valid")]
        assert len(inner) == len(want) * len(NAMES) * found["tuning"].nunique()
        members = store.read("members", result.part_name)
        assert members["inner_fold"].nunique() == SPLITS[split].n_inner_folds


def test_what_is_registered_as_having_inner_folds_has_them(corpus):
    for name, split in SPLITS.items():
        rows = make_split(name, *corpus)
        inner = rows.groupby(["repeat", "fold"])["inner_fold"].nunique()
        assert (inner == split.n_inner_folds).all(), name
    assert SPLITS["nested"].n_inner_folds == N_INNER_FOLDS


@pytest.mark.parametrize("split", SPLITS)
def test_a_corpus_that_cannot_have_it_hears_why(corpus, split):
    """Two clips of one excerpt have none of what a split needs; the message names the split and what it found."""
    clips, ratings, labels, notes = corpus
    few = clips[:2]
    mine = [frame[frame["clip"].isin(few["clip"])] for frame in (ratings, labels, notes)]
    with pytest.raises(SplitImpossible, match=rf"split '{split}': .*(found|no clip)"):
        make_split(split, few, *mine)
