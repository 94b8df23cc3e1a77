"""The function and the command: which champion scores, what is printed, written and refused."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import soundfile
from click.testing import CliRunner

from piano_assets.cli import main
from piano_assets.corpus.rendering.modal import render_modal
from piano_assets.corpus.transcription.likeness import as_heard
from piano_assets.dimensions import NAMES
from piano_assets.ensembles.champion_files import NoChampion
from piano_assets.report.recording import page
from piano_assets.scoring import api
from piano_assets.scoring.api import score_file
from piano_assets.scoring.recordings import read_recording
from piano_assets.scoring.tables import recording_id
from piano_assets.scoring.tell import as_json
from piano_assets.store.parts import Store


@pytest.fixture
def run(champion_root, tmp_path, monkeypatch):
    shutil.copytree(champion_root, tmp_path / "data" / "synthetic")
    monkeypatch.setenv("PIANO_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("PIANO_CORPUS", "synthetic")
    return lambda *given: CliRunner().invoke(main, ["score", *map(str, given)])


def test_the_kind_of_file_decides_which_champion_scores(midi_files, champion_root, tmp_path, monkeypatch):
    told = []
    scores = score_file(midi_files[0], champion_root, told=told.append)
    assert scores.champion["champion"] == "performance"
    assert told == [f"reading {midi_files[0].name}", f"scoring {scores.recording.duration_s:.0f} s of MIDI"]
    path = tmp_path / "played.flac"
    soundfile.write(path, render_modal(read_recording(midi_files[0]).performance), 22050)
    without = score_file(path, champion_root, transcribe=False)
    assert without.champion["champion"] == "sound"
    assert "Scored from the sound alone" in as_json(without)["warnings"][0]
    # Notes that were heard are scored by the champion that learnt from such notes.
    played = read_recording(midi_files[0]).performance
    monkeypatch.setattr(api, "_transcriber", lambda: lambda samples: transcription_of(played))
    heard = score_file(path, champion_root, transcribe=True)
    assert heard.champion["champion"] == "recording"
    assert heard.recording.performance.n_notes == played.n_notes
    assert "notes and pedals that transkun heard in the sound" in as_json(heard)["warnings"][0]
    assert "The playing" in page(heard)
    monkeypatch.setattr(api, "can_transcribe", lambda: False)
    assert score_file(path, champion_root).champion["champion"] == "sound"
    assert api.titles_asked() == ("performance", "sound")
    assert api.titles_asked(True) == ("performance", "recording")


def transcription_of(performance):
    """All notes of a performance, each as long as it sounds, as a transcriber tells of them."""
    columns, heard = ("onset_s", "offset_s", "pitch", "velocity"), as_heard(performance)
    return pd.DataFrame({"event": "note", **{name: getattr(heard, name) for name in columns}})


def test_a_strange_sound_is_told_by_who_knows_sound(midi_files, champion_root, tmp_path, monkeypatch):
    """The champion of transcribed notes hears no sound: that the timbre is none it knows, the one of sound says."""
    played = read_recording(midi_files[0]).performance
    monkeypatch.setattr(api, "_transcriber", lambda: lambda samples: transcription_of(played))
    sound, rng = render_modal(played), np.random.default_rng(0)
    soundfile.write(tmp_path / "piano.wav", sound, 22050)
    soundfile.write(tmp_path / "noise.wav", 0.1 * rng.standard_normal(len(sound)), 22050)
    piano, noise = (score_file(tmp_path / f"{name}.wav", champion_root, True) for name in ("piano", "noise"))
    assert "timbre" not in piano.aspects, "it moves no score"
    assert "timbre" in piano.judged
    assert piano.in_domain
    assert noise.beyond == ("timbre",)
    assert "Is it a piano alone?" in " ".join(as_json(noise)["warnings"])
    np.testing.assert_array_equal(piano.value, noise.value)
    alone = tmp_path / "alone"
    shutil.copytree(champion_root / "champions" / "recording", alone / "champions" / "recording")
    assert score_file(tmp_path / "noise.wav", alone, True).judged == piano.aspects, "without that one nobody says so"


def test_what_a_program_reads(midi_files, champion_root):
    scores = score_file(midi_files[1], champion_root)
    told = json.loads(json.dumps(as_json(scores), allow_nan=False))
    assert [s["dimension"] for s in told["scores"]] == list(NAMES)
    first = told["scores"][0]
    assert (first["low_pole"], first["high_pole"]) == ("stable timing", "unstable timing")
    assert first["low"] <= first["value"] <= first["high"]
    assert sum(first["moved_by"].values()) == pytest.approx(scores.value[0] - scores.reference_value[0], abs=1e-3)
    effects = [abs(f["moved"]) for f in first["features"]]
    assert effects == sorted(effects, reverse=True)
    assert told["champion"]["nested"]["pearson_mean"]["value"] == 0.7
    assert (told["in_domain"], told["warnings"]) == (True, [])


def test_the_command_prints_a_table_lines_for_programs_and_pages(run, midi_files, tmp_path):
    found = run(midi_files[0])
    assert found.exit_code == 0, found.output
    assert "stable timing" in found.output
    assert "champion `performance`" in found.output.replace("\n", " ")
    lines = run("--json", "--html", tmp_path / "pages", *midi_files[:2]).output.splitlines()
    assert [json.loads(line)["recording"] for line in lines] == [p.name for p in midi_files[:2]]
    page = (tmp_path / "pages" / f"{midi_files[0].name}.html").read_text()
    assert page.count("data:image/png;base64,") == 4
    assert "http" not in page.replace("http-equiv", "")
    assert "In numbers" in page


def test_a_file_that_cannot_be_scored_does_not_keep_others_from_it(run, midi_files, tmp_path):
    wrong = tmp_path / "empty.mid"
    wrong.write_bytes(b"")
    found = run("--json", wrong, midi_files[0])
    assert found.exit_code == 1
    first, second = map(json.loads, found.output.splitlines())
    assert first == {
        "recording": "empty.mid",
        "error": "empty.mid: the file is empty (0 bytes). Export or copy it again.",
    }
    assert second["recording"] == midi_files[0].name


def test_without_a_champion_it_says_how_to_make_one(run, champion_root, midi_files, tmp_path, monkeypatch):
    with pytest.raises(NoChampion, match="`piano champion performance` fits one"):
        score_file(midi_files[0], tmp_path)
    monkeypatch.setenv("PIANO_DATA", str(tmp_path))
    found = run(midi_files[0])
    assert found.exit_code == 1
    assert "`piano champion performance` fits one" in found.output
    assert not (tmp_path / "champions").exists()


def test_a_champion_that_was_replaced_is_not_remembered(midi_files, champion_root, tmp_path):
    """Folders are named by part key, and what is current is asked anew for each file."""
    root = tmp_path / "corpus"
    shutil.copytree(champion_root, root)
    before = score_file(midi_files[0], root).champion["part_key"]
    home = root / "champions" / "performance"
    shutil.copytree(home / "k1", home / "k2")
    record = json.loads((home / "k2" / "record.json").read_text()) | {"part_key": "k2"}
    (home / "k2" / "record.json").write_text(json.dumps(record))
    (home / "current.json").write_text(json.dumps({"part_key": "k2", "before": ["k1"]}))
    assert (before, score_file(midi_files[0], root).champion["part_key"]) == ("k1", "k2")


def test_two_recordings_are_set_side_by_side(champion_root, midi_files, tmp_path, monkeypatch):
    monkeypatch.setenv("PIANO_DATA", str(champion_root.parent))
    monkeypatch.setenv("PIANO_CORPUS", "synthetic")
    done = CliRunner().invoke(main, ["compare", str(midi_files[0]), str(midi_files[1])])
    assert done.exit_code == 0, done.output
    scores = [score_file(path, champion_root) for path in midi_files[:2]]
    assert f"{scores[1].value[0] - scores[0].value[0]:+.2f}" in done.output
    assert done.output.count(" .. ") == 19
    page = tmp_path / "pages" / "both.html"
    done = CliRunner().invoke(main, ["compare", "--json", "--html", str(page), str(midi_files[0]), str(midi_files[1])])
    told = json.loads(done.output)
    assert [d["dimension"] for d in told["differences"]] == list(NAMES)
    for d in told["differences"]:
        assert sum(d["moved_by"].values()) == pytest.approx(d["value"], abs=1e-3)
    assert page.read_text().count("data:image/png;base64,") == 3
    assert midi_files[1].name in page.read_text()


def test_the_champion_before_can_score_beside_the_present_one(run, midi_files, tmp_path):
    home = tmp_path / "data" / "synthetic" / "champions" / "performance"

    def champion(*given):
        return CliRunner().invoke(main, ["champion", "performance", *given])

    alone = champion("--beside")
    assert alone.exit_code == 1
    assert "nobody held the title before k1" in alone.output
    shutil.copytree(home / "k1", home / "k0")
    (home / "current.json").write_text('{"part_key": "k1", "before": ["k0"], "held": false}')
    assert "k0 scores beside it" in champion("--beside").output
    assert "before" in run(midi_files[0]).output
    told = json.loads(run("--json", midi_files[0]).output)
    assert [s["value"] for s in told["beside"]["scores"]] == [s["value"] for s in told["scores"]]
    assert "it scores alone" in champion("--alone").output
    assert json.loads(run("--json", midi_files[0]).output)["beside"] is None


def test_what_is_scored_joins_monitoring_unless_somebody_minds(run, midi_files, tmp_path):
    store = Store(tmp_path / "data" / "synthetic")
    assert run("--no-monitor", midi_files[0]).exit_code == 0
    assert not list(store.parts("monitoring"))
    assert run(midi_files[0]).exit_code == 0
    (part,) = store.parts("monitoring")
    assert part.name.endswith(recording_id(midi_files[0].name, "").lstrip("."))
