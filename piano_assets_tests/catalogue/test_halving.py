"""The halving rule: who stops, who stays, whatever the order in which arms are told."""

import math

from hypothesis import given
from hypothesis import strategies as st

from piano_assets.catalogue.halving import worse_half

ARMS = st.dictionaries(st.text("abcdefgh", min_size=1), st.floats(-1, 1), min_size=1, max_size=20)


def stopped(valid_r, *references) -> list[str]:
    return [s.arm for s in worse_half(valid_r, frozenset(references))]


def test_the_worse_half_stops_worst_first():
    found = worse_half({"a": 0.5, "b": 0.2, "c": 0.4, "d": 0.1})
    assert [(s.arm, s.valid_r, s.kept_valid_r) for s in found] == [("d", 0.1, 0.4), ("b", 0.2, 0.4)]


def test_of_an_odd_number_the_larger_half_stays():
    assert stopped({"a": 0.3, "b": 0.2, "c": 0.1}) == ["c"]
    assert stopped({"a": 0.3}) == []
    assert stopped({}) == []


def test_the_reference_stays_however_bad_and_takes_nobodys_place():
    assert stopped({"mse": -1.0, "a": 0.3, "b": 0.2, "c": 0.1, "d": 0.0}, "mse") == ["d", "c"]
    assert stopped({"mse": 0.9, "a": 0.3, "b": 0.2, "c": 0.1, "d": 0.0}, "mse") == ["d", "c"]
    assert stopped({"mse": 0.1}, "mse") == []


def test_ties_stay():
    assert stopped({"a": 0.3, "b": 0.1, "c": 0.1, "d": 0.1}) == []
    assert stopped({"a": 0.3, "b": 0.2, "c": 0.2, "d": 0.1}) == ["d"]


@given(ARMS)
def test_at_most_half_stops_and_nobody_better_than_one_who_stays(valid_r):
    gone = set(stopped(valid_r))
    assert len(gone) <= math.floor(len(valid_r) / 2)
    stays = [r for arm, r in valid_r.items() if arm not in gone]
    assert stays
    assert all(valid_r[arm] < min(stays) for arm in gone)
    if len(set(valid_r.values())) == len(valid_r):
        assert len(gone) == len(valid_r) // 2, "without ties exactly half stops"


@given(ARMS, st.randoms())
def test_the_order_of_arms_decides_nothing(valid_r, random):
    shuffled = list(valid_r.items())
    random.shuffle(shuffled)
    assert worse_half(dict(shuffled)) == worse_half(valid_r)
