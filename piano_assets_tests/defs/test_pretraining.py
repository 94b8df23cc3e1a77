"""From a folder of unlabelled music to features of every clip: what contains evaluation music is never learnt from."""

import dagster as dg
import pytest

from piano_assets.catalogue.trial import Encoder
from piano_assets.corpus.pretraining.loading import CONTAINS, IDENTICAL
from piano_assets.defs.pretraining import ASSETS, NAME
from piano_assets.features.sets import design_matrix
from piano_assets.store.checkpoints import checkpoint_folder, read_record
from piano_assets_tests.corpus.pretraining.music import midi, piece, write
from piano_assets_tests.defs.conftest import Graph, copied

pytestmark = pytest.mark.xdist_group("graph")

NAMES = ("pretraining_clips", "pretrained_encoder", "pretrained_features")


@pytest.fixture
def music(tmp_path, graph: Graph):
    """Two pieces, a flute in place of one, and two of the corpus's own clips."""
    clips = sorted((graph.source / "virtuoso/data/all_2rounds").glob("*.mid"))
    own = {f"own {i}.mid": clips[i].read_bytes() for i in (0, 40)}
    return write(
        tmp_path / "music", own | {f"{i}.mid": midi(piece(500 + i, 900), i) for i in range(2)} | {"x.mid": b""}
    )


def test_from_a_folder_to_features_and_the_second_time_nothing_is_made(tmp_path, graph: Graph, music, monkeypatch):
    from piano_assets.training.pretraining import loop

    encoder = Encoder(depth=1, dim=16, heads=2, head_dim=8, mlp_ratio=2.0, dropout=0.0)
    monkeypatch.setattr(loop, "RECIPE", loop.Recipe(encoder=encoder, n_bins=8, epochs=1, batch_size=4))
    monkeypatch.setenv("PIANO_PRETRAINING_DIR", str(music))
    piano = copied(graph, tmp_path / "data", "predictions", "history", "runs", "members")
    found = dg.materialize(ASSETS, resources={"piano": piano}, selection=dg.AssetSelection.assets(*NAMES))
    assert found.success
    store = piano.store()
    clips = store.read("pretraining_clips", "all").set_index("file")
    assert set(clips.loc[["own 0.mid", "own 40.mid"], "rule"]) <= {IDENTICAL, CONTAINS}
    assert set(clips.loc[["own 0.mid", "own 40.mid"], "role"]) == {"excluded"}
    assert set(clips.loc[["0.mid", "1.mid"], "role"]) <= {"train", "valid"}
    assert store.read("quarantine", "pretraining")["item"].tolist() == ["x.mid"]
    record = read_record(checkpoint_folder(store.root, NAME))
    assert record["n_clips"]["excluded"] == 2
    assert not list((store.root / "work").glob("*"))
    every = store.read("clips", "all")["clip"].tolist()
    x, names = design_matrix(store.read("features", "pretrained"), "pretrained", every)
    assert x.shape == (len(every), len(names))
    assert (x.std(0) > 0).mean() > 0.9

    again = dg.materialize(ASSETS, resources={"piano": piano}, selection=dg.AssetSelection.assets(*NAMES))
    events = [event.step_materialization_data.materialization for event in again.get_asset_materialization_events()]
    assert [event.metadata["reused"].value for event in events] == [True, True, True]


def test_without_a_folder_it_says_so(tmp_path, graph: Graph, monkeypatch):
    monkeypatch.setenv("PIANO_PRETRAINING_DIR", str(tmp_path / "nowhere"))
    piano = copied(graph, tmp_path / "data", "predictions", "history", "runs", "members")
    with pytest.raises(Exception, match=r"PIANO_PRETRAINING_DIR=.*nowhere.*is not a folder"):
        dg.materialize(ASSETS, resources={"piano": piano}, selection=dg.AssetSelection.assets(NAMES[0]))
