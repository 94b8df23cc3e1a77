"""What a night trains, against orders and sums worked out by hand."""

import pandas as pd
import pytest

from piano_assets.catalogue.comparisons import built_in
from piano_assets.defs import night as module
from piano_assets.defs.night import UNKNOWN_S, expected_seconds, night, seconds_of, undecided, within
from piano_assets.defs.planner import Task
from piano_assets.store.parts import Store

TRIALS = built_in().trials
RUNS = pd.DataFrame(
    [("family.ridge", "cpu", 10.0), ("family.ridge", "cpu", 30.0), ("family.ridge", "cpu", 14.0),
     ("loss.huber", "cuda:0", 50.0), ("loss.huber", "cuda:1", 70.0), ("gone.arm", "cpu", 1.0)],
    columns=["config", "device", "seconds"],
)  # fmt: skip


def task(config: str, seed: int = 0) -> Task:
    return Task(config, seed, TRIALS[config])


@pytest.fixture
def store(tmp_path, monkeypatch) -> Store:
    """A store without results in which `family.ridge` takes 14 s, `loss.huber` 60 s on a GPU."""
    monkeypatch.setattr(module, "past_runs", lambda _: RUNS)
    return Store(tmp_path / "synthetic")


@pytest.mark.parametrize(("text", "seconds"), [("2h", 7200), ("90m", 5400), ("1h30m", 5400), ("45s", 45)])
def test_durations(text, seconds):
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["20", "", "-2h", "0s", "two hours", "nan"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ValueError, match="no duration"):
        seconds_of(text)


def test_seconds_are_the_median_of_the_likes_of_it():
    other = next(c for c, t in TRIALS.items() if t.family == "ridge" and t.budget == "full" and c != "family.ridge")
    tasks = [
        task("family.ridge", 3),
        task(other),
        task("family.kernel_ridge"),
        task("loss.huber"),
        task("loss.ranking"),
    ]
    on_cpu, on_gpu = (expected_seconds(RUNS, tasks, TRIALS, device) for device in ("cpu", "cuda:0"))
    assert on_cpu == {
        "family.ridge|3": 14.0,
        f"{other}|0": 14.0,
        "family.kernel_ridge|0": UNKNOWN_S[False],
        "loss.huber|0": UNKNOWN_S[True],
        "loss.ranking|0": UNKNOWN_S[True],
    }
    assert (on_gpu["loss.huber|0"], on_gpu["loss.ranking|0"]) == (60.0, 60.0), (
        "one family, one budget, one device class"
    )
    assert on_gpu["family.ridge|3"] == 14.0, "tabular models run on the processor"


def test_first_seeds_come_first_then_references_then_the_cheap(store):
    todo = [
        task("loss.ranking", 1),
        task("loss.ranking"),
        task("family.ridge", 1),
        task("family.ridge"),
        task("ast.reference"),
    ]
    found = night(store, todo, device="cuda")
    assert [t.partition for t in found.chosen] == [
        "ast.reference|0",  # a reference
        "family.ridge|0",
        "loss.ranking|0",
        "family.ridge|1",
        "loss.ranking|1",
    ]
    assert found.left == []


def test_a_budget_takes_what_still_fits_and_names_the_rest(store):
    todo = [task("family.ridge", s) for s in range(3)] + [task("loss.huber", 0)]
    found = night(store, todo, 29, "cuda")
    assert [t.partition for t in found.chosen] == ["family.ridge|0", "family.ridge|1"]
    assert [t.partition for t in found.left] == ["loss.huber|0", "family.ridge|2"]
    assert found.expected_s == 28
    with pytest.raises(ValueError, match="budget_s=0 must be > 0"):
        night(store, todo, 0)


def test_arms_with_a_verdict_come_last():
    catalogue = built_in()
    (loss,) = (c for c in catalogue.comparisons if c.name == "loss")
    reference = catalogue.reference(loss)[0]
    arms = {arm: config for arm, (config, _) in catalogue.arms(loss).items() if config != reference}
    first, second, *others = arms
    tests = pd.DataFrame(
        [("loss", first, True, "better"), ("loss", second, True, "inconclusive"), ("loss", others[0], False, "worse")],
        columns=["comparison", "arm", "is_primary", "verdict"],
    )
    found = undecided(tests, catalogue)
    assert arms[first] not in found
    assert {arms[second], arms[others[0]], reference} <= found
    every = pd.DataFrame([(n, a, True, "equivalent") for n, of, b in catalogue.views() for a in catalogue.arms(of, b)])
    every.columns = tests.columns
    assert not undecided(every, catalogue) & {reference, *arms.values()}, "nothing is open"


def test_a_sweep_spends_its_budget_once_however_often_it_asks(store, monkeypatch):
    todo = [task("family.ridge", s) for s in range(4)]
    stands: set[str] = set()
    monkeypatch.setattr(module.planner, "missing", lambda _, tasks: [t for t in tasks if t.partition not in stands])
    limited = within(lambda: todo, store, 30, "cpu")
    assert [t.seed for t in limited()] == [0, 1]
    stands |= {"family.ridge|0"}
    assert [t.seed for t in limited()] == [0, 1]
    stands |= {"family.ridge|1", "family.ridge|3"}
    assert [t.seed for t in limited()] == [0, 1, 3], "what stands is no expense; seed 2 has no place"
