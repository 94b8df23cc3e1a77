"""A corpus' sound on disk: files, rows, recordings that win and recordings that cannot be used."""

import numpy as np
import pytest
import soundfile

from piano_assets.corpus.audio import AudioError
from piano_assets.corpus.rendering import RECORDED, render_corpus, write
from piano_assets.corpus.rendering.modal import render_modal
from piano_assets.schemas import TABLES
from piano_assets_tests.corpus.playing import RATE, play

CLIPS = {f"clip_{i}": play([(0.0, 0.1 + 0.05 * i, 60, 40 + 20 * i)]) for i in range(4)}


def test_every_clip_has_a_row_and_a_file(tmp_path):
    seen = []
    rows = render_corpus(CLIPS, tmp_path, "modal", progress=lambda done, total: seen.append((done, total)))
    TABLES["audio"].conform(rows)
    assert rows["clip"].tolist() == list(CLIPS)
    assert seen == [(i, 4) for i in range(1, 5)]
    for row in rows.itertuples():
        samples, rate = soundfile.read(tmp_path / row.path, dtype="float32")
        assert (rate, soundfile.info(tmp_path / row.path).subtype) == (RATE, "PCM_16")
        assert row.duration_s == len(samples) / rate
        # Half a step of rounding, and 32767 against 32768 as full scale.
        np.testing.assert_allclose(samples, render_modal(CLIPS[row.clip]), atol=0.5 / 32767 + 0.5 / 32768)
    assert sorted(p.name for p in (tmp_path / "renderings" / "modal").iterdir()) == [f"{c}.wav" for c in CLIPS]


def test_rows_do_not_depend_on_the_number_of_workers(tmp_path):
    one, three = (render_corpus(CLIPS, tmp_path / str(n), "modal", workers=n) for n in (1, 3))
    assert one.equals(three)
    assert one["content_hash"].nunique() == len(CLIPS)


def test_nothing_to_render(tmp_path):
    TABLES["audio"].conform(render_corpus({}, tmp_path, "modal"))


def test_unknown_rendering_is_refused(tmp_path):
    with pytest.raises(ValueError, match="rendering='organ' must be one of modal, fluidsynth"):
        render_corpus(CLIPS, tmp_path, "organ")


def test_a_recording_wins(tmp_path):
    (tmp_path / "audio").mkdir()
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 30000)
    soundfile.write(tmp_path / "audio" / "clip_2.flac", noise, 44100)
    rows = render_corpus(CLIPS, tmp_path, "modal").set_index("clip")
    assert rows.loc["clip_2", ["rendering", "path"]].tolist() == [RECORDED, "audio/clip_2.flac"]
    assert rows.loc["clip_2", "duration_s"] == pytest.approx(30000 / 44100, abs=1e-4)
    assert (rows.drop("clip_2")["rendering"] == "modal").all()
    assert not (tmp_path / "renderings" / "modal" / "clip_2.wav").exists()


def test_an_unusable_recording_is_an_error_or_rendered_and_reported_never_silently_replaced(tmp_path):
    (tmp_path / "audio").mkdir()
    (tmp_path / "audio" / "clip_1.wav").write_bytes(b"RIFFnothing")
    with pytest.raises(AudioError, match=r"clip_1\.wav: audio must be readable"):
        render_corpus(CLIPS, tmp_path, "modal")
    reported = {}
    rows = render_corpus(CLIPS, tmp_path, "modal", on_bad_recording=reported.__setitem__)
    assert rows["clip"].tolist() == list(CLIPS)
    assert (rows["rendering"] == "modal").all()
    assert reported["clip_1"].rule == "audio must be readable"


def test_a_broken_write_leaves_the_old_file_and_no_litter(tmp_path, monkeypatch):
    path = tmp_path / "a.wav"
    write.write_wav(path, np.full(100, 0.5, np.float32), RATE)
    before = path.read_bytes()

    def full(*args):
        raise OSError("no space left")

    monkeypatch.setattr(write.os, "replace", full)
    with pytest.raises(OSError, match="no space left"):
        write.write_wav(path, np.zeros(100, np.float32), RATE)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.wav"]


def test_full_scale_does_not_wrap_around(tmp_path):
    pcm = write.write_wav(tmp_path / "a.wav", np.array([-1, 1, 0.5], np.float32), RATE)
    assert pcm.tolist() == [-32767, 32767, 16384]
