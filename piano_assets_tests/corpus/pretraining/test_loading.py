"""What becomes of each file of a folder: used, excluded with its piece, or quarantined; never dropped silently."""

import csv
import shutil

import mido
import pytest

from piano_assets.corpus.archive import SourceError
from piano_assets.corpus.pretraining import loading
from piano_assets.corpus.pretraining.loading import CONTAINS, DUPLICATE, IDENTICAL, SAME_PIECE, load, used
from piano_assets.schemas import TABLES
from piano_assets_tests.corpus.files import midi_bytes, note, pedal
from piano_assets_tests.corpus.pretraining.music import events, midi, piece, pitches, played, with_wrong_notes, write

EXCERPT = piece(0, 60)
SCORES = {"excerpt": pitches(EXCERPT)}
MAESTRO = ("canonical_composer", "canonical_title", "split", "year", "midi_filename", "audio_filename", "duration")


def program(number, channel=0, tick=0):
    return [(tick, mido.Message("program_change", program=number, channel=channel))]


def read(folder, evaluation=None):
    found = load(folder, SCORES, evaluation or {})
    for table in ("pretraining_clips", "quarantine"):
        TABLES[table].conform(found.clips if table == "pretraining_clips" else found.quarantine)
    return found


def verdicts(found):
    """file -> rule: of the table where the file is used or excluded, else of the quarantine."""
    rules = [*found.clips["rule"].astype(object).where(found.clips["rule"].notna(), None), *found.quarantine["rule"]]
    return dict(zip([*found.clips["file"], *found.quarantine["item"]], rules, strict=True))


def table(folder, name, columns, rows):
    with (folder / name).open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([columns, *rows])


def test_planted_evaluation_music_is_excluded_and_other_music_of_the_composer_stays(tmp_path):
    write(
        tmp_path,
        {
            "itself.mid": midi(EXCERPT, 1),
            "wrong.mid": midi(with_wrong_notes(EXCERPT, 0.1, 3), 2),
            "inside.midi": midi([*piece(5, 300), *EXCERPT, *piece(6, 300)], 3),
            "same style.MID": midi(piece(7, 400), 4),
        },
    )
    found = read(tmp_path)
    assert verdicts(found) == {
        "itself.mid": CONTAINS,
        "wrong.mid": CONTAINS,
        "inside.midi": CONTAINS,
        "same style.MID": None,
    }
    values = found.clips.set_index("file")["value"]
    assert values["itself.mid"] == "excerpt: 100%"
    assert found.clips.set_index("file")["role"].tolist().count("excluded") == 3
    assert found.quarantine.empty


def test_the_notes_of_a_clip_are_known_whatever_its_pedal(tmp_path):
    """Here the score is unknown: the notes alone give it away."""
    chords = piece(8, 80)
    write(tmp_path, {"clip.mid": midi(chords), "other.mid": midi(piece(9, 80))})
    clip = loading.read_midi(
        write(tmp_path / "corpus", {"a.mid": midi_bytes([e for e in events(chords) if e[1].type != "control_change"])})
        / "a.mid"
    )
    shutil.rmtree(tmp_path / "corpus")
    found = read(tmp_path, {"Schubert_clip": clip})
    row = found.clips.set_index("file").loc["clip.mid"]
    assert (row["role"], row["rule"], row["value"]) == ("excluded", IDENTICAL, "Schubert_clip")
    assert verdicts(found)["other.mid"] is None


def test_a_piece_of_which_one_performance_is_found_is_excluded_whole(tmp_path):
    """One player plays all, another leaves out the part that is evaluated on, a third plays something else."""
    write(
        tmp_path,
        {
            "2004/a.midi": midi(piece(21, 200), 1),
            "2006/b.midi": midi([*piece(21, 200), *EXCERPT], 2),
            "2006/c.midi": midi(piece(22, 200), 3),
        },
    )
    who = "Franz Schubert"
    rows = [
        (who, "Sonata", "train", "2004", "2004/a.midi", "2004/a.wav", "40"),
        (who, "Sonata", "train", "2006", "2006/b.midi", "2006/b.wav", "50"),
        (who, "Impromptu", "test", "2006", "2006/c.midi", "2006/c.wav", "40"),
    ]
    table(tmp_path, "maestro-v3.0.0.csv", MAESTRO, rows)
    found = read(tmp_path)
    assert found.layout == "maestro"
    assert verdicts(found) == {"2004/a.midi": SAME_PIECE, "2006/b.midi": CONTAINS, "2006/c.midi": None}
    assert found.clips.set_index("file").loc["2004/a.midi", "value"] == "2006/b.midi"
    assert found.clips.set_index("file").loc["2006/c.midi", ["composer", "title"]].tolist() == [who, "Impromptu"]


def test_what_is_no_piano_performance_is_quarantined_with_rule_and_value(tmp_path):
    tune = piece(30, 60)
    good = midi(tune, 1)
    write(
        tmp_path,
        {
            "good.mid": good,
            "again.mid": good,
            "drums.mid": midi_bytes(events(piece(31, 60)), events(piece(32, 20), channel=9)),
            "flute.mid": midi_bytes(program(73) + events(piece(33, 60))),
            "late flute.mid": midi_bytes(events(piece(34, 60)) + program(73, tick=5000)),
            "two pianos.mid": midi_bytes(program(2, 1) + events(piece(35, 60)) + events(piece(36, 60), channel=1)),
            "empty.mid": b"",
            "no notes.mid": midi_bytes(pedal(0, 100)),
            "text.mid": b"<html>",
            "cut.mid": good[: len(good) // 2],
        },
    )
    found = read(tmp_path)
    assert found.clips["file"].tolist() == ["again.mid"]
    rows = {item: (rule, value) for _, item, rule, value in found.quarantine.itertuples(index=False)}
    assert set(rows) == {p.name for p in tmp_path.iterdir()} - {"again.mid"}
    assert rows["good.mid"] == (DUPLICATE, "again.mid")
    assert rows["drums.mid"] == ("no note is on the drum channel", "30 notes")
    assert rows["flute.mid"][1] == "program 73: 90 notes"
    assert rows["late flute.mid"][1].startswith("program 73: ")
    assert rows["two pianos.mid"] == ("one instrument plays", "program 0, program 2")
    assert "content" in rows["empty.mid"][0]
    assert "at least one note" in rows["no notes.mid"][0]
    assert "MThd" in rows["text.mid"][0]
    assert "well-formed" in rows["cut.mid"][0]


def test_two_hands_on_two_channels_and_unused_programs_are_one_piano(tmp_path):
    hands = midi_bytes(events(piece(40, 60)) + program(0, 1), events(piece(41, 60), channel=1) + program(40, 5))
    found = read(write(tmp_path, {"hands.mid": hands}))
    assert verdicts(found) == {"hands.mid": None}


def test_a_program_named_at_the_tick_of_a_note_counts_for_it_in_whatever_track(tmp_path):
    notes = note(0, 100, 60) + note(200, 300, 62)
    found = read(write(tmp_path, {"a.mid": midi_bytes(notes, program(56, tick=0))}))
    assert found.quarantine["value"].tolist() == ["program 56: 2 notes"]


def test_listed_and_unlisted_files_of_a_collection_are_accounted_for(tmp_path):
    write(tmp_path, {"Bach/a.mid": midi(piece(50, 60)), "Bach/midi_score.mid": midi(piece(51, 60))})
    (tmp_path.parent / "outside.mid").write_bytes(midi(piece(52, 60)))
    columns = ("composer", "title", "folder", "midi_performance")
    rows = [
        ("Bach", "Fugue", "Bach", f) for f in ("Bach/a.mid", "Bach/a.mid", "Bach/gone.mid", "../outside.mid", "/x.mid")
    ]
    table(tmp_path, "metadata.csv", columns, rows)
    found = read(tmp_path)
    assert found.layout == "asap"
    assert found.clips["file"].tolist() == ["Bach/a.mid"]
    assert sorted(zip(found.quarantine["item"], found.quarantine["rule"], strict=True)) == [
        ("../outside.mid", "a listed performance lies inside the folder"),
        ("/x.mid", "a listed performance lies inside the folder"),
        ("Bach/a.mid", "a performance is listed once"),
        ("Bach/gone.mid", "a listed performance is in the folder"),
        ("Bach/midi_score.mid", "a performance is listed in the folder's table"),
    ]


def test_a_table_without_a_needed_column_is_an_error(tmp_path):
    write(tmp_path, {"a.mid": midi(piece(50, 60))})
    table(tmp_path, "metadata.csv", ("composer", "folder", "midi_performance"), [])
    with pytest.raises(SourceError, match="title missing"):
        read(tmp_path)


def test_a_folder_without_midi_is_an_error(tmp_path):
    (tmp_path / "readme.txt").write_text("nothing here")
    with pytest.raises(SourceError, match="no MIDI file"):
        read(tmp_path)


def test_links_are_not_followed(tmp_path):
    write(tmp_path, {"music/a.mid": midi(piece(50, 60)), "elsewhere/b.mid": midi(piece(51, 60))})
    (tmp_path / "music" / "link.mid").symlink_to(tmp_path / "elsewhere" / "b.mid")
    (tmp_path / "music" / "folder").symlink_to(tmp_path / "elsewhere")
    assert read(tmp_path / "music").clips["file"].tolist() == ["a.mid"]


def test_whole_pieces_are_held_out_and_stay_so_when_others_come():
    names = [f"Composer: Piece {i}" for i in range(400)]
    held = [n for n in names if loading.is_valid(n)]
    assert 8 <= len(held) <= 34  # 400 / 20, +- 3 standard deviations
    assert [n for n in names[:200] if loading.is_valid(n)] == [n for n in held if n in names[:200]]


def test_used_performances_are_read_again_and_a_changed_file_is_refused(tmp_path):
    write(tmp_path, {"a.mid": midi(piece(50, 60)), "b.mid": midi(EXCERPT)})
    clips = read(tmp_path).clips.assign(role=["train", "excluded"])
    assert [p.n_notes for p in used(tmp_path, clips, "train")] == [90]
    (tmp_path / "a.mid").write_bytes(midi(piece(51, 60)))
    with pytest.raises(ValueError, match=r"a\.mid.*the file was changed"):
        list(used(tmp_path, clips, "train"))


def test_equal_music_has_equal_notes_whatever_its_pedals(tmp_path):
    a, b = played(EXCERPT, 1), played(EXCERPT, 2)
    assert loading.notes_hash(a) == loading.notes_hash(played(EXCERPT, 1)) != loading.notes_hash(b)
