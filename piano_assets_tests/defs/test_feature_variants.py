"""Features of transposed clips: what knows no pitch stays, what does moves as far as the notes."""

import numpy as np
import pytest

from piano_assets.defs.features import make_feature_variant
from piano_assets_tests.defs.conftest import copied

pytestmark = pytest.mark.xdist_group("graph")


def silent(what):
    return lambda done, total: None


def test_features_are_computed_again_of_transposed_notes_and_stand_apart(graph, tmp_path):
    store = copied(graph, tmp_path, "predictions").store()
    name, made = make_feature_variant(store, "shift+2", silent)
    assert (name, made) == ("symbolic+shift+2", True)
    assert make_feature_variant(store, "shift+2", silent) == (name, False)
    rows = store.read("features", name)
    assert set(rows["rendering"]) == {"midi+shift+2"}
    plain, moved = (
        x.pivot(index="clip", columns="feature", values="value") for x in (store.read("features", "symbolic"), rows)
    )
    assert plain.index.equals(moved.index)
    assert plain.columns.equals(moved.columns)
    np.testing.assert_allclose(moved["texture_pitch_mean"] - plain["texture_pitch_mean"], 2, rtol=1e-9)
    untouched = [c for c in plain.columns if c.startswith(("timing_", "articulation_", "asynchrony_"))]
    assert len(untouched) > 100
    assert any(c.endswith("_vs_deadpan") for c in untouched), "deadpan renditions are transposed with the others"
    np.testing.assert_allclose(moved[untouched], plain[untouched], rtol=1e-7, atol=1e-9)


def test_features_of_what_is_heard_stand_beside_those_of_what_was_played(graph):
    """Onsets are heard as they are; the pedal of the synthetic players is, half-way, up or down to who listens."""
    store = graph.store
    names = ("symbolic", "symbolic.as_heard", "music.as_heard")
    played, heard, music = (store.read("features", name) for name in names)
    assert set(heard["rendering"]) == set(music["rendering"]) == {"as_heard"}
    wide = [x.pivot(index="clip", columns="feature", values="value") for x in (played, heard)]
    assert wide[0].index.equals(wide[1].index)
    assert wide[0].columns.equals(wide[1].columns)
    same = [c for c in wide[0].columns if c.startswith(("timing_", "asynchrony_"))]
    np.testing.assert_allclose(wide[1][same], wide[0][same], rtol=1e-9, atol=1e-12)
    assert (wide[0]["pedal_half_share"] > 0).any()
    assert (wide[1]["pedal_half_share"].fillna(0) == 0).all()
