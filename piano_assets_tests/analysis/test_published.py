"""The published numbers, checked against what was printed."""

import pytest

from piano_assets.analysis.published import published_table
from piano_assets.schemas import TABLES


def test_conforms():
    TABLES["published"].conform(published_table())


@pytest.mark.parametrize(
    ("subject", "split", "metric", "value"),
    [
        ("PercePiano Bi-LSTM + SA + HAN", "excerpt", "r2_fold_mean", 0.397),
        ("PercePiano Bi-LSTM + SA + HAN", "percepiano_performer", "r2_fold_mean", 0.285),
        ("2601.19029 MuQ layers 9-12", "excerpt", "r2_fold_mean", 0.533),
        ("2601.19029 MuQ layers 9-12", "excerpt", "pearson_mean", 0.732),
        ("founding AST 86M", "founding", "pearson_flat_z", 0.5285),
        ("founding random forest", "founding", "pearson_flat_z", 0.5869),
    ],
)
def test_headline_numbers(subject, split, metric, value):
    table = published_table().set_index(["subject", "split", "metric"])
    assert table.loc[(subject, split, metric), "value"] == value


def test_every_number_says_what_is_wrong_with_it():
    table = published_table()
    assert table["caveat"].str.len().min() > 20
    inside = table.dropna(subset="ci_low")
    assert ((inside["ci_low"] < inside["value"]) & (inside["value"] < inside["ci_high"])).all()
