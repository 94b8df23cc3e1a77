"""Transcription clip by clip: what a killed run leaves, what is asked for, what is told of it."""

import numpy as np
import pandas as pd
import pytest

from piano_assets.corpus.rendering.write import write_wav
from piano_assets.corpus.transcription.parts import heard_parts
from piano_assets.corpus.transcription.subset import subset
from piano_assets.defs.transcription import clips_to_hear, feature_makers, quality_rows, transcribe
from piano_assets.schemas import TABLES
from piano_assets.store.parts import Store
from piano_assets_tests.features.notes import line, performance
from piano_assets_tests.training import tiny

CLIPS = tuple("abcde")
PITCHES = (60, 64, 67, 72, 71, 67)


@pytest.fixture
def store(tmp_path) -> Store:
    """Five clips of a line of notes, with a second of noise each in the place of sound."""
    store, rng = Store(tmp_path), np.random.default_rng(0)
    paths = {clip: write_wav(tmp_path / f"{clip}.wav", rng.uniform(-0.5, 0.5, 22050), 22050) for clip in CLIPS}
    told = {"rendering": "modal", "sample_rate": 22050, "duration_s": 1.0, "content_hash": "h"}
    audio = pd.DataFrame({"clip": list(paths), "path": [f"{c}.wav" for c in paths]}).assign(**told)
    store.write("audio", audio, key="sound", name="modal")
    p = performance(line(PITCHES))
    notes = {"onset_s": p.onset_s, "offset_s": p.offset_s, "pitch": p.pitch, "velocity": p.velocity}
    store.write("notes", pd.concat([pd.DataFrame(notes).assign(clip=c) for c in CLIPS]), key="k")
    store.write("controls", TABLES["controls"].empty(), key="k")
    clips = pd.DataFrame({"clip": CLIPS, "excerpt": "e", "player": CLIPS, "deadpan": [c == "a" for c in CLIPS]})
    rest = {"composer": "Beethoven", "work": "w", "movement": None, "bars": 8, "segment": 1, "cluster": "x"}
    rest |= {"performer": "p", "duration_s": 3.0, "n_notes": 6, "content_hash": "h"}
    store.write("clips", clips.assign(**rest), key="k")
    return store


class Transcriber:
    """Hears the line in everything, and dies with the clip of this number."""

    def __init__(self, dies_at: int = 99) -> None:
        self.heard, self.dies_at = 0, dies_at

    def __call__(self, samples: np.ndarray) -> pd.DataFrame:
        assert samples.shape == (22050,)
        self.heard += 1
        if self.heard == self.dies_at:
            raise KeyboardInterrupt
        rows = pd.DataFrame(line(PITCHES), columns=["onset_s", "offset_s", "pitch", "velocity"])
        return rows.astype({"pitch": "Int64", "velocity": "Int64"}).assign(event="note")


def hear(store: Store, transcriber: Transcriber, clips=CLIPS) -> tuple[int, list[int]]:
    told: list[int] = []
    made = transcribe(store, "modal", clips, lambda: transcriber, "float32-cpu", lambda done, n: told.append(done))
    return made, told


def test_a_killed_run_loses_the_clip_in_hand_and_the_next_goes_on(store):
    with pytest.raises(KeyboardInterrupt):
        hear(store, Transcriber(dies_at=3))
    assert set(heard_parts(store, "modal")) == {"a", "b"}
    second = Transcriber()
    assert hear(store, second) == (3, [1, 2, 3, 4, 5])
    assert second.heard == 3
    assert set(heard_parts(store, "modal")) == set(CLIPS)


def test_where_all_stands_no_model_is_loaded(store):
    hear(store, Transcriber())

    def never() -> Transcriber:
        raise AssertionError("nothing is missing")

    assert transcribe(store, "modal", CLIPS, never, "float32-cpu", lambda done, n: None) == 0


def test_another_sound_is_heard_anew(store):
    hear(store, Transcriber())
    store.write("audio", store.read("audio", "modal"), key="another", name="modal")
    assert heard_parts(store, "modal") == {}
    assert hear(store, Transcriber())[0] == len(CLIPS)


def test_quality_stands_beside_with_what_it_took(store):
    hear(store, Transcriber())
    rows = quality_rows(store, "modal", heard_parts(store, "modal"))
    TABLES["transcription_quality"].conform(rows)
    assert rows["clip"].tolist() == list(CLIPS)
    assert (rows["f1"] == 1).all()
    assert (rows["machine"] == "float32-cpu").all()
    assert len(quality_rows(store, "modal", {})) == 0


@pytest.mark.parametrize("clips", [CLIPS, CLIPS[1:]], ids=["with", "without"])
def test_features_are_relative_to_the_deadpan_clip_only_where_it_was_heard(store, clips):
    hear(store, Transcriber(), clips)
    makers = feature_makers(store, "modal", heard_parts(store, "modal"), lambda done, n: None)
    for source, make in makers.items():
        rows = make()
        TABLES["features"].conform(rows)
        assert set(rows["source"]) == {source}
        assert set(rows["rendering"]) == {"transcribed.modal"}
        assert set(rows["clip"]) == set(clips)
        relative = rows[rows["feature"].str.endswith("_vs_deadpan")]
        if source == "symbolic":
            assert relative["value"].notna().any() == ("a" in clips)


def test_who_is_heard_is_asked_by_the_environment(tmp_path):
    store = tiny.build_store(tmp_path)
    labelled = sorted(set(tiny.CLIPS) - {tiny.UNLABELLED})
    for asked, gpu in ((None, True), ("all", False), (None, False)):  # the subset is larger than this corpus
        assert sorted(clips_to_hear(store, asked, gpu)) == labelled
    clips = store.read("clips", "all")
    assert clips_to_hear(store, "7", gpu=True) == subset(clips[clips["clip"].isin(labelled)], 7)
    for wrong in ("some", "0", "-3", ""):
        with pytest.raises(ValueError, match=f"PIANO_TRANSCRIBE={wrong!r} must be"):
            clips_to_hear(store, wrong, gpu=False)
