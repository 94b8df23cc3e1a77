"""The line of a key, for every way in which TOML may spell it."""

import tomllib

import pytest

from piano_assets.catalogue.toml_lines import line_of

TEXT = """\
# a comment = 1
name = "x"

[arms.one]
model.dropout = 0.3
"optimisation.loss" = "huber"
model . depth = 2

[ arms . two ]
model = {dropout = 0.1, depth = 3}
[arms.two.optimisation]
loss = 'mse'
"""

SPELT = {
    ("name",): 2,
    ("arms", "one"): 4,
    ("arms", "one", "model", "dropout"): 5,
    ("arms", "one", "optimisation", "loss"): 6,
    ("arms", "one", "model", "depth"): 7,
    ("arms", "two"): 9,
    ("arms", "two", "model", "depth"): 10,
    ("arms", "two", "optimisation", "loss"): 12,
}


@pytest.mark.parametrize("path", SPELT)
def test_a_key_is_found(path):
    assert line_of(TEXT, path) == SPELT[path]


def test_these_are_the_keys_that_the_parser_reads():
    table = tomllib.loads(TEXT)
    for path in SPELT:
        node = table
        for key in (
            path if path[-2:] != ("optimisation", "loss") or path[1] == "two" else (*path[:2], ".".join(path[2:]))
        ):
            node = node[key]


def test_without_the_key_the_nearest_above_it_is_named():
    assert line_of(TEXT, ("arms", "one", "split")) == 4
    assert line_of(TEXT, ("hypothesis",)) == 1
    assert line_of("", ("name",)) == 1
