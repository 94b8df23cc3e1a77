"""Figures of adapted subjects show the values of their table."""

import numpy as np
import pandas as pd
import pytest

from piano_assets.adaptation.conditions import GROUPS
from piano_assets.report.adaptation_plots import sequence_figure, support_figure
from piano_assets_tests.report.small_tables import cross, small_tables


def test_a_line_a_method_over_rated_clips_and_the_unadapted_as_a_band():
    rows = small_tables()["adaptation_curves"]
    figure = support_figure(rows)
    for axis, metric in zip(figure.axes, ("pearson_mean", "r2_pooled"), strict=True):
        lines = {line.get_label(): line for line in axis.get_lines()}
        assert set(lines) == {"unadapted", "shift", "maml"}
        of = rows[(rows["subject"] == "adaptation.maml") & (rows["metric"] == metric)].sort_values("step")
        np.testing.assert_allclose(lines["maml"].get_ydata(), of["value"])
        before = rows[(rows["step"] == 0) & (rows["metric"] == metric)]["value"].item()
        assert set(lines["unadapted"].get_ydata()) == {before}


def test_groups_from_their_own_stage_on_and_a_dashed_line_for_what_is_learnt_at_once():
    stages = pd.DataFrame(
        [("adaptation.ewc", g, s, 0.5 + s / 100) for n, g in enumerate(GROUPS, start=1) for s in range(n, 5)],
        columns=["subject", "group", "step", "value"],
    )
    once = cross(subject=("adaptation.together",), group=tuple(GROUPS), step=(4,)).assign(value=0.9)
    rows = pd.concat([stages, once]).assign(curve="sequence", metric="pearson_mean")
    figure = sequence_figure(rows)
    assert [axis.get_title() for axis in figure.axes] == list(GROUPS)
    for n, axis in enumerate(figure.axes, start=1):
        ewc, together = axis.get_lines()
        assert list(ewc.get_xdata()) == list(range(n, 5))
        assert together.get_linestyle() == "--"
        assert set(together.get_ydata()) == {0.9}


def test_nothing_to_draw_is_refused():
    nothing = small_tables()["adaptation_curves"].iloc[:0]
    with pytest.raises(ValueError, match="support"):
        support_figure(nothing)
    with pytest.raises(ValueError, match="sequence"):
        sequence_figure(nothing)
