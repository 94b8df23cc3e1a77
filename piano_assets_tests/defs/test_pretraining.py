"""From a folder of unlabelled music to features of every clip: what contains evaluation music is never learnt from."""

import dagster as dg
import pytest

from piano_assets.catalogue.trial import Encoder
from piano_assets.corpus.pretraining.loading import CONTAINS, IDENTICAL
from piano_assets.defs.data import PianoData
from piano_assets.defs.pretraining import ASSETS, NAME
from piano_assets.features.sets import design_matrix
from piano_assets.schemas import TABLES
from piano_assets.store.checkpoints import checkpoint_folder, read_record
from piano_assets_tests.corpus.files import midi_bytes, note
from piano_assets_tests.corpus.pretraining.music import midi, piece, write
from piano_assets_tests.corpus.small_corpus import clips_and_notes

NAMES = ("pretraining_clips", "pretrained_encoder", "pretrained_features")
CLIP, DEADPAN = "Beethoven_WoO80_var3_8bars_7_3", "Schubert_D960_mv2_8bars_Score_03"


@pytest.fixture
def piano(tmp_path) -> PianoData:
    """A corpus of 132 clips, as far as these assets read it."""
    found = PianoData(root=str(tmp_path / "data"), corpus="synthetic")
    (tmp_path / "data" / "synthetic" / "source").mkdir(parents=True)
    clips, notes = clips_and_notes()
    tables = {"clips": clips, "notes": notes, "controls": TABLES["controls"].empty()}
    for table, frame in tables.items():
        found.store().write(table, frame, key="1")
    return found


@pytest.fixture
def music(tmp_path, monkeypatch):
    """Two pieces, an empty file, a clip of the corpus, and the score of another in the middle of a piece."""
    notes = clips_and_notes()[1]
    clip = notes[notes["clip"] == CLIP]
    own = [
        event
        for n in clip.itertuples()
        for event in note(round(1000 * n.onset_s), round(1000 * n.offset_s), n.pitch, n.velocity)
    ]
    score = [(int(p),) for p in notes.loc[notes["clip"] == DEADPAN, "pitch"]]
    files = {f"{i}.mid": midi(piece(500 + i, 900), i) for i in range(2)} | {"empty.mid": b""}
    files |= {"clip.mid": midi_bytes(own), "inside.mid": midi([*piece(510, 300), *score, *piece(511, 300)])}
    monkeypatch.setenv("PIANO_PRETRAINING_DIR", str(write(tmp_path / "music", files)))


def run(piano: PianoData, *names: str) -> list[dg.AssetMaterialization]:
    found = dg.materialize(ASSETS, resources={"piano": piano}, selection=dg.AssetSelection.assets(*names))
    return [event.step_materialization_data.materialization for event in found.get_asset_materialization_events()]


def test_from_a_folder_to_features_and_the_second_time_nothing_is_made(piano, music, monkeypatch):
    from piano_assets.training.pretraining import loop

    encoder = Encoder(depth=1, dim=16, heads=2, head_dim=8, mlp_ratio=2.0, dropout=0.0)
    monkeypatch.setattr(loop, "RECIPE", loop.Recipe(encoder=encoder, n_bins=8, epochs=1, batch_size=4))
    run(piano, *NAMES)
    store = piano.store()
    clips = store.read("pretraining_clips", "all").set_index("file")
    assert clips.loc[["clip.mid", "inside.mid"], "rule"].tolist() == [IDENTICAL, CONTAINS]
    assert clips["role"].isin(["train", "valid"]).to_dict() == {
        "0.mid": True,
        "1.mid": True,
        "clip.mid": False,
        "inside.mid": False,
    }
    assert store.read("quarantine", "pretraining")["item"].tolist() == ["empty.mid"]
    record = read_record(checkpoint_folder(store.root, NAME))
    assert record["n_clips"]["excluded"] == 2
    assert not list((store.root / "work").glob("*"))
    every = store.read("clips", "all")["clip"].tolist()
    x, names = design_matrix(store.read("features", "pretrained"), "pretrained", every)
    assert x.shape == (len(every), len(names))
    assert {"departure_velocity_given_score_mean", "surprise_log_ioi_given_neighbours"} <= set(names)
    again = run(piano, *NAMES)
    assert [event.metadata["reused"].value for event in again] == [True, True, True]


def test_a_folder_that_is_not_there_is_an_error(piano, tmp_path, monkeypatch):
    monkeypatch.setenv("PIANO_PRETRAINING_DIR", str(tmp_path / "nowhere"))
    with pytest.raises(Exception, match=r"PIANO_PRETRAINING_DIR=.*nowhere.*is not a folder"):
        run(piano, NAMES[0])
