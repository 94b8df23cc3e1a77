"""What an arm changed is told shortly, and what was tested is what is drawn."""

import numpy as np
import pytest
from matplotlib.colors import to_hex

from piano_assets.report.differences import COLOURS, differences_plot
from piano_assets.report.outcomes import changes, outcomes
from piano_assets_tests.report.experiment_tables import DIFFERENCES, experiment_tables


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"model.dropout": [0.3, 0.1]}, ("dropout 0.3 (0.1)",)),
        ({"augmentation.mixup": [0.2, 0.0], "augmentation.longer": [True, False]}, ("mixup 0.2", "longer")),
        ({"inputs.spectrogram": [None, "cqt"], "inputs.notes": [False, True]}, ("no spectrogram (cqt)", "no notes")),
        ({"search": [[["a", [1]]], []]}, ("another search",)),
        ({"model.regressor": ["ridge", "forest"], "search": [[], []]}, ("regressor ridge (forest)",)),
        (
            {"model.regressor": [None, "forest"], "model.dim": [4, None], "inputs.features": [None, "all"]},
            ("ast (random_forest)", "no features (all)"),
        ),
        ({}, ()),
    ],
)
def test_changes_are_told_shortly(fields, told):
    assert changes(fields, "ast", "random_forest") == told


def test_what_is_drawn_is_what_was_tested():
    tables = experiment_tables()
    outcome = outcomes(tables)[0]
    (axis,) = differences_plot(outcome).axes
    names = [t.get_text() for t in axis.get_yticklabels()]
    assert names == list(DIFFERENCES)[::-1]
    drawn = [line for line in axis.lines if len(set(np.atleast_1d(line.get_ydata()))) == 1]
    for y, name in enumerate(names):
        estimate, low, high, *_, verdict = DIFFERENCES[name]
        span, point = (line for line in drawn if line.get_ydata()[0] == y)
        assert list(span.get_xdata()) == [low, high]
        assert list(point.get_xdata()) == [estimate]
        assert {to_hex(line.get_color()) for line in (span, point)} == {COLOURS[verdict]}
    with pytest.raises(ValueError, match="no arm was tested"):
        differences_plot(outcomes(tables)[1])
