"""Loading: every file is a clip or a quarantine row; the real corpus has the published counts."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from piano_assets.corpus.loading import load_performances
from piano_assets.corpus.performance import performances
from piano_assets.corpus.source import PERFORMANCES
from piano_assets.schemas import TABLES
from piano_assets_tests.corpus.files import melody, raw_midi, write_corpus
from piano_assets_tests.corpus.test_midi import EDITS, mutated

GOOD = "Schubert_D960_mv3_8bars_1_01.mid"


def assert_tables(loaded):
    TABLES["clips"].conform(loaded.clips.assign(cluster="none"))
    for name in ("notes", "controls", "quarantine"):
        TABLES[name].conform(getattr(loaded, name))
    assert set(loaded.notes["clip"]) == set(loaded.clips["clip"])
    assert set(loaded.controls["clip"]) <= set(loaded.clips["clip"])


def test_bad_files_are_set_aside_with_their_rule_and_the_others_go_on(tmp_path):
    files = {
        GOOD: melody(),
        " Schubert_D935_no.3_4bars_2_1.mid": melody(velocity=30),
        "Schubert_D935_no.3_4bars_2_1.mid": melody(),
        "Schubert_D960_mv3_8bars_2_1.mid": melody(),
        "Beethoven_WoO80_var1_8bars_3_1.mid": melody()[:70],
        "Beethoven_WoO80_var1_8bars_4_1.mid": b"",
        "Beethoven_WoO80_var1_8bars_7_1.mid": b"not a MIDI file",
        "Beethoven_WoO80_var1_8bars_11_1.mid": raw_midi(bytes([0, 0xFF, 0x2F, 0])),
        "Moonlight.mid": melody(),
    }
    steps = []
    loaded = load_performances(write_corpus(tmp_path, files), progress=lambda done, total: steps.append((done, total)))
    assert_tables(loaded)
    assert list(loaded.clips["clip"]) == [
        "Schubert_D935_no.3_4bars_2_1",
        "Schubert_D960_mv3_8bars_1_01",
        "Schubert_D960_mv3_8bars_2_01",
    ]
    why = dict(zip(loaded.quarantine["item"], loaded.quarantine["rule"], strict=True))
    assert "one file per clip" in why["Schubert_D935_no.3_4bars_2_1.mid"]
    assert "well-formed" in why["Beethoven_WoO80_var1_8bars_3_1.mid"]
    assert "has content" in why["Beethoven_WoO80_var1_8bars_4_1.mid"]
    assert "MThd" in why["Beethoven_WoO80_var1_8bars_7_1.mid"]
    assert "at least one note" in why["Beethoven_WoO80_var1_8bars_11_1.mid"]
    assert "a name reads" in why["Moonlight.mid"]
    assert len(why) == 6
    assert set(loaded.quarantine["source"]) == {PERFORMANCES}
    assert steps == [(i, 9) for i in range(1, 10)]


def test_broken_first_file_of_a_clip_does_not_cost_the_second(tmp_path):
    files = {" " + GOOD: b"broken", GOOD: melody()}
    loaded = load_performances(write_corpus(tmp_path, files))
    assert list(loaded.clips["clip"]) == [GOOD.removesuffix(".mid")]
    assert list(loaded.quarantine["item"]) == [" " + GOOD]


def test_identical_music_under_other_names_stays_and_shows(tmp_path):
    other, louder = GOOD.replace("_1_01", "_2_01"), GOOD.replace("_1_01", "_3_01")
    loaded = load_performances(
        write_corpus(tmp_path, {GOOD: melody(), other: melody(shift=777), louder: melody(velocity=65)})
    )
    assert loaded.clips["content_hash"].nunique() == 2
    assert loaded.clips["content_hash"][0] == loaded.clips["content_hash"][1]
    assert loaded.quarantine.empty


def test_tables_give_back_the_performances(tmp_path):
    loaded = load_performances(write_corpus(tmp_path, {GOOD: melody()}))
    back = performances(loaded.notes, loaded.controls)[GOOD.removesuffix(".mid")]
    assert back.duration_s == loaded.clips["duration_s"].item() == pytest.approx(0.95)
    assert back.pitch.tolist() == [60, 61, 62, 63, 64]
    assert back.pedal()[1].tolist() == [100, 0]


def test_all_bad_gives_empty_tables_and_an_empty_folder_an_error(tmp_path):
    loaded = load_performances(write_corpus(tmp_path / "a", {GOOD: b""}))
    assert loaded.clips.empty
    assert_tables(loaded)
    with pytest.raises(FileNotFoundError, match="all_2rounds"):
        load_performances(write_corpus(tmp_path / "b", {}))


NAMES = st.sampled_from([GOOD, " " + GOOD, GOOD.replace("01", "1"), GOOD.replace("_1_", "_2_"), "x.mid", GOOD + "x"])


@given(st.dictionaries(NAMES, st.tuples(st.booleans(), EDITS), min_size=1))
@settings(max_examples=40, deadline=None)
def test_files_in_are_clips_and_quarantine_rows_out(tmp_path_factory, files):
    folder = tmp_path_factory.mktemp("mutated")
    contents = {name: mutated(melody(), edits) if broken else melody() for name, (broken, edits) in files.items()}
    loaded = load_performances(write_corpus(folder, contents))
    assert_tables(loaded)
    assert len(loaded.clips) + len(loaded.quarantine) == len(files)


@pytest.mark.percepiano
def test_real_corpus_counts(loaded_percepiano):
    """Counts from a separate survey of the corpus; 28 groups of files hold the same notes and pedals."""
    loaded = loaded_percepiano
    assert_tables(loaded)
    clips = loaded.clips
    assert loaded.quarantine.empty
    assert (len(clips), int(clips["deadpan"].sum()), clips["excerpt"].nunique()) == (1202, 129, 99)
    assert clips[["composer", "work"]].nunique().tolist() == [2, 3]
    notes = clips["n_notes"]
    assert (notes.min(), notes.median(), notes.max()) == (51, 106, 413)
    duration = clips["duration_s"]
    np.testing.assert_allclose([duration.min(), duration.median(), duration.max()], [4.3, 11.3, 93.8], atol=0.05)
    assert duration.sum() / 3600 == pytest.approx(5.6, abs=0.05)
    length = loaded.notes["offset_s"] - loaded.notes["onset_s"]
    silent = loaded.notes[length == 0]
    assert (len(silent), silent["clip"].nunique()) == (170, 32)
    repeats = clips["content_hash"].value_counts()
    assert ((repeats > 1).sum(), repeats[repeats > 1].sum()) == (28, 64)
