"""What was heard in sound: which clips are, as what it is kept, and how well it fits the notes that were played."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest

from piano_assets.corpus.performance import SOFT, SUSTAIN, Performance
from piano_assets.corpus.transcription.parts import heard_parts, heard_performances, part_key, part_name
from piano_assets.corpus.transcription.quality import quality
from piano_assets.corpus.transcription.subset import subset
from piano_assets.corpus.transcription.transcriber import events, performance_of
from piano_assets.schemas import TABLES
from piano_assets.store.parts import Store
from piano_assets_tests.corpus.playing import play


@dataclass
class Heard:
    """What the transcriber hands back."""

    start: float
    end: float
    pitch: int
    velocity: int


def corpus(n: int = 300, seed: int = 0) -> pd.DataFrame:
    """Clips in five clusters of very different sizes, a tenth of them deadpan."""
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "clip": [f"clip_{i:03d}" for i in range(n)],
            "cluster": rng.choice(list("abcde"), n, p=[0.5, 0.2, 0.15, 0.1, 0.05]),
            "deadpan": np.arange(n) % 10 == 0,
            "content_hash": [f"{x:016x}" for x in rng.integers(0, 2**60, n)],
        }
    )


def test_the_subset_is_even_over_clusters_and_holds_deadpan_clips_in_proportion():
    clips = corpus()
    chosen = clips[clips["clip"].isin(subset(clips, 40))]
    assert len(chosen) == 40
    assert chosen["deadpan"].sum() == 4
    humans = chosen[~chosen["deadpan"]]["cluster"].value_counts()
    assert humans.max() - humans.min() <= 1


def test_a_cluster_that_is_used_up_leaves_its_turns_to_the_others():
    clips = corpus()
    humans = clips[~clips["deadpan"]]
    available = humans["cluster"].value_counts()
    chosen = clips[clips["clip"].isin(subset(clips, 150))]
    got = chosen[~chosen["deadpan"]]["cluster"].value_counts()
    fewest = available.idxmin()
    assert got[fewest] == available[fewest]
    assert got.sum() == 135


def test_whoever_stops_on_the_way_has_heard_all_clusters_alike():
    clips = corpus()
    some = clips.set_index("clip").loc[subset(clips, 100)[:20]]
    assert some["deadpan"].sum() == 2
    assert set(some[~some["deadpan"]]["cluster"].value_counts()) <= {3, 4}


def test_names_and_order_of_clips_do_not_choose():
    clips = corpus()
    other = clips.assign(clip=[f"x{999 - i}" for i in range(len(clips))]).sample(frac=1, random_state=3)
    hashes = [c.set_index("clip")["content_hash"][subset(c, 40)].tolist() for c in (clips, other)]
    assert hashes[0] == hashes[1]


def test_small_corpora_are_taken_whole_and_none_is_refused():
    clips = corpus(20)
    assert subset(clips, 20) == subset(clips, 99)
    assert set(subset(clips, 20)) == set(clips["clip"])
    with pytest.raises(ValueError, match="n_clips=0 must be at least 1"):
        subset(clips, 0)


def test_what_was_heard_is_kept_as_its_table_declares():
    heard = [Heard(1.0, 2.0, 60, 0), Heard(0.5, 3.0, -64, 127), Heard(0.5, 0.9, 72, 80), Heard(2.0, 2.5, -67, 100)]
    found = events(heard)
    TABLES["transcriptions"].conform(found.assign(clip="c", rendering="modal"))
    assert found["event"].tolist() == ["sustain", "note", "note", "soft"]
    assert found["pitch"].tolist() == [pd.NA, 72, 60, pd.NA]
    assert found["velocity"].tolist() == [pd.NA, 80, 1, pd.NA], "MIDI has no note of velocity 0"
    nothing = events([])
    assert len(TABLES["transcriptions"].conform(nothing.assign(clip="c", rendering="modal"))) == 0


def test_a_performance_starts_with_its_first_onset_and_presses_pedals_as_they_were_heard():
    heard = [Heard(0.3, 2.0, 60, 70), Heard(0.8, 1.5, 64, 90), Heard(0.1, 1.0, -64, 127), Heard(1.0, 1.4, -64, 127)]
    found = performance_of(events([*heard, Heard(0.5, 0.9, -67, 127)]))
    np.testing.assert_allclose(found.onset_s, [0, 0.5])
    np.testing.assert_allclose(found.offset_s, [1.7, 1.2])
    assert found.pitch.tolist() == [60, 64]
    time, value = found.pedal(SUSTAIN)
    np.testing.assert_allclose(time, [0, 0.7, 0.7, 1.1], atol=1e-12)
    assert value.tolist() == [127, 0, 127, 0], "of two moves at one moment the release comes first"
    np.testing.assert_allclose(found.pedal(SOFT)[0], [0.2, 0.6])
    with pytest.raises(ValueError, match="no note was heard"):
        performance_of(events(heard[2:]))


def as_heard(played: Performance, shift_s: float = 0.0) -> pd.DataFrame:
    notes = zip(played.onset_s + shift_s, played.offset_s + shift_s, played.pitch, played.velocity, strict=True)
    return events([Heard(*map(float, n[:2]), *map(int, n[2:])) for n in notes])


def test_quality_by_hand():
    """Four notes: one exact, one 40 ms late, one 60 ms late (not the same note), one missed; and one note too many."""
    played = play([(0, 1, 60, 50), (1, 2, 62, 70), (2, 3, 64, 90), (3, 4, 65, 60)])
    heard = events([Heard(0.0, 1, 60, 50), Heard(1.04, 2, 62, 70), Heard(2.06, 3, 64, 90), Heard(5, 6, 40, 30)])
    found = quality(played, heard)
    assert (found["n_played"], found["n_heard"]) == (4, 4)
    assert found["precision"] == found["recall"] == found["f1"] == 0.5
    assert found["late_s"] == pytest.approx(0.02)
    assert np.isnan(found["velocity_r"]), "two notes have no correlation worth the name"


def test_quality_is_mir_evals_and_velocities_are_those_of_matched_notes():
    from mir_eval.transcription import precision_recall_f1_overlap
    from mir_eval.util import midi_to_hz

    rng = np.random.default_rng(2)
    onset, pitch, velocity = np.sort(rng.uniform(0, 20, 80)), rng.integers(40, 80, 80), rng.integers(20, 110, 80)
    played = play([(o, o + 0.5, p, v) for o, p, v in zip(onset, pitch, velocity, strict=True)])
    kept = rng.permutation(80)[:60]
    late = rng.normal(0, 0.02, 60)
    heard = events(
        [Heard(onset[k] + d + 1, onset[k] + 2, pitch[k], velocity[k]) for k, d in zip(kept, late, strict=True)]
    )
    heard["onset_s"] -= 1
    found = quality(played, heard)
    intervals = [np.stack([x, x + 0.1], axis=1) for x in (played.onset_s, heard["onset_s"].to_numpy())]
    hertz = [midi_to_hz(np.asarray(p, float)) for p in (played.pitch, heard["pitch"])]
    want = precision_recall_f1_overlap(intervals[0], hertz[0], intervals[1], hertz[1], offset_ratio=None)
    np.testing.assert_allclose([found["precision"], found["recall"], found["f1"]], want[:3], rtol=1e-12)
    assert found["velocity_r"] > 0.99


def test_what_was_not_heard_at_all_scores_nothing():
    found = quality(play([(0, 1, 60, 50)]), events([Heard(0, 1, -64, 127)]))
    assert found["n_heard"] == found["precision"] == found["recall"] == found["f1"] == 0
    assert np.isnan(found["velocity_r"])
    assert np.isnan(found["late_s"])


def test_only_what_was_heard_in_the_sound_as_it_is_now_counts(tmp_path):
    store, rows = Store(tmp_path), as_heard(play([(0, 1, 60, 50)]))
    assert heard_parts(store, "modal") == {}
    audio = {"rendering": "modal", "path": "a.wav", "sample_rate": 22050, "duration_s": 1.0, "content_hash": "h"}
    store.write("audio", pd.DataFrame([{"clip": c, **audio} for c in "abc"]), key="now", name="modal")
    for clip, sound, found in (("a", "now", rows), ("b", "before", rows), ("c", "now", rows.iloc[:0])):
        frame = found.assign(clip=clip, rendering="modal")
        store.write("transcriptions", frame, key=part_key(sound, clip), name=part_name("modal", clip))
    parts = heard_parts(store, "modal")
    assert set(parts) == {"a", "c"}
    assert heard_parts(store, "fluidsynth") == {}
    assert set(heard_performances(parts)) == {"a"}, "nothing was heard in c"
