"""What is drawn is what the rows say, read back from the figures."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex, to_rgba

from piano_assets.report.network_plots import attention_over_notes, gradient_flow, loss_landscape
from piano_assets.report.plots import CEILING, LOOKUP, SCORE


def table(*rows: tuple) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["condition", "step", "metric", "value", "ci_low", "ci_high"])
    return frame.astype(dict.fromkeys(("step", "value", "ci_low", "ci_high"), float)).sample(frac=1, random_state=0)


def landscape(steep: float = 1.0) -> pd.DataFrame:
    rows = []
    for metric, offset in (("train_loss", 1.0), ("valid_loss", 2.0)):
        rows += [("direction", a, metric, offset + steep * a**2, None, None) for a in (-1, -0.5, 0, 0.5, 1)]
        rows += [
            (f"beta={b:g}", a, metric, offset + steep * (a**2 + 3 * b**2), None, None)
            for a in (-1, 0, 1)
            for b in (-1, 0, 1)
        ]
    return table(*rows)


def test_the_landscape_shows_both_curves_and_both_planes():
    figure = loss_landscape(landscape(), "title")
    assert figure._suptitle.get_text() == "title"
    curve, *planes = figure.axes[:3]
    for colour, offset in ((SCORE, 1.0), (LOOKUP, 2.0)):
        (line,) = (x for x in curve.lines if to_hex(x.get_color()) == colour)
        np.testing.assert_allclose(line.get_xydata(), [[a, offset + a**2] for a in (-1, -0.5, 0, 0.5, 1)])
    assert curve.get_yscale() == "linear"
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["training crops", "validation clips"]
    assert [axis.get_title() for axis in planes] == ["training crops", "validation clips"]
    for axis, offset in zip(planes, (1.0, 2.0), strict=True):
        filled = axis.collections[0]
        np.testing.assert_allclose([filled.levels[0], filled.levels[-1]], [offset, offset + 4])
        (mark,) = axis.lines
        assert mark.get_xydata().tolist() == [[0, 0]]
        # The line 8 / 13 above the least: between the points of the grid the loss is taken for straight.
        line = axis.collections[1].get_paths()[2].vertices
        np.testing.assert_allclose(np.abs(line).max(0), [8 / 13, 8 / 39])


def test_a_steep_landscape_has_a_logarithmic_axis():
    figure = loss_landscape(landscape(steep=100.0), "")
    assert figure.axes[0].get_yscale() == "log"
    levels = figure.axes[1].collections[0].levels
    np.testing.assert_allclose(np.diff(np.log(levels)), np.log(401) / 13)


def flow() -> pd.DataFrame:
    rows = []
    for step, (name, noise) in enumerate(
        {"stem": (50.0, 20.0, 90.0), "block": (200.0, 100.0, None), "head": (None, None, None)}.items()
    ):
        rows.append((name, step, "relative_gradient", 0.1 * (step + 1), None, None))
        rows += [(name, step, metric, 1.0, None, None) for metric in ("gradient_norm", "weight_norm")]
        rows.append((name, step, "noise_scale", *noise))
    return table(*rows, ("network", None, "noise_scale", 1234.0, 400.0, None))


def test_layers_stand_in_their_order_with_bars_and_intervals():
    figure = gradient_flow(flow(), "title")
    bars, noise = figure.axes
    assert [t.get_text() for t in bars.get_yticklabels()] == ["stem", "block", "head"]
    assert bars.yaxis_inverted(), "the input on top"
    np.testing.assert_allclose([p.get_width() for p in bars.patches], [0.1, 0.2, 0.3])
    lines = [line for line in noise.lines if to_hex(line.get_color()) == SCORE and line.get_marker() != "o"]
    spans = {line.get_ydata()[0]: line.get_xdata() for line in lines}
    marks = {line.get_ydata()[0]: line.get_xdata()[0] for line in noise.lines if line.get_marker() == "o"}
    assert marks == {0: 50, 1: 200}, "no mark for what cannot be told from noise"
    np.testing.assert_allclose(spans[0], [20, 90])
    assert spans[1][0] == 100
    assert spans[1][1] == noise.get_xlim()[1], "without an upper end it runs out of the panel"
    (whole,) = (line for line in noise.lines if to_hex(line.get_color()) == CEILING)
    assert set(whole.get_xdata()) == {1234}
    assert figure.legends[0].get_texts()[0].get_text() == "whole network: 1,234 clips"


def test_a_network_whose_pull_is_noise_has_no_line():
    rows = flow()
    rows.loc[rows["step"].isna(), ["value", "ci_low", "ci_high"]] = np.nan
    figure = gradient_flow(rows, "")
    assert not figure.legends
    assert not [line for line in figure.axes[1].lines if to_hex(line.get_color()) == CEILING]


def piano(clip: str = "c") -> pd.DataFrame:
    onset = [0.0, 0.0, 1.0, 2.5]
    return pd.DataFrame(
        {"clip": clip, "onset_s": onset, "offset_s": [0.5, 1.0, 2.0, 3.0], "pitch": [60, 64, 67, 72], "velocity": 64}
    )


def shade(axis) -> np.ndarray:
    """How saturated each note's colour is, in the order drawn."""
    return np.array([1 - min(to_rgba(p.get_facecolor())[:3]) for p in axis.patches])


def attended(metric: str, steps: tuple, shares: tuple, even: tuple, clip: str = "c") -> list[tuple]:
    return [
        (clip, step, name, value, None, None)
        for name, values in ((metric, shares), (f"{metric}_even", even))
        for step, value in zip(steps, values, strict=True)
    ]


def test_notes_of_a_spectrogram_have_the_attention_of_their_time():
    """Four stretches of a second, the last of half a second; worked out by hand."""
    rows = table(
        *attended("attention", (0.5, 1.5, 2.5, 3.25), (0.1, 0.6, 0.2, 0.1), (0.25, 0.25, 0.4, 0.1)),
        *(("c", b, "attention_band", v, None, None) for b, v in ((8, 0.75), (24, 0.25))),
    )
    figure = attention_over_notes(rows, piano(), "title")
    above, _, roll, beside = figure.axes[:4]
    (course,) = (line for line in above.lines if to_hex(line.get_color()) == SCORE)
    np.testing.assert_allclose(course.get_xydata(), [[0.5, 0.4], [1.5, 2.4], [2.5, 0.5], [3.25, 1]])
    assert [p.get_y() + p.get_height() / 2 for p in roll.patches] == [60, 64, 67, 72]
    np.testing.assert_allclose([p.get_x() for p in roll.patches], [0, 0, 1, 2.5])
    np.testing.assert_allclose([p.get_width() for p in roll.patches], [0.5, 1, 1, 0.5])
    assert np.argsort(shade(roll), kind="stable").tolist() == [0, 1, 3, 2], "0.4, 0.4, 0.5 and 2.4"
    assert shade(roll)[0] == shade(roll)[1]
    np.testing.assert_allclose([p.get_width() for p in beside.patches], [1.5, 0.5])
    assert above.get_title(loc="left") == "c"


def test_a_note_over_two_stretches_has_their_mean():
    from piano_assets.report.network_plots import _relative

    rows = table(
        *attended("attention", (0.5, 1.5), (0.2, 0.8), (0.5, 0.5)),
        ("c", 8, "attention_band", 1.0, None, None),
    )
    notes = piano().iloc[:1].assign(onset_s=0.5, offset_s=2.0)  # half a second at 0.4, a second at 1.6
    np.testing.assert_allclose(_relative(rows, notes)[2], [(0.5 * 0.4 + 1.6) / 1.5])


def test_note_events_have_their_own_attention():
    rows = table(
        *attended("attention_note", (0, 1, 2, 3), (0.1, 0.4, 0.3, 0.2), (0.25,) * 4),
        *attended("attention", (0.0, 1.0, 2.5), (0.5, 0.3, 0.2), (0.5, 0.25, 0.25)),
    )
    figure = attention_over_notes(rows, piano(), "")
    above, _, roll, beside = figure.axes[:4]
    assert np.argsort(shade(roll)).tolist() == [0, 3, 2, 1]
    (course,) = (line for line in above.lines if to_hex(line.get_color()) == SCORE)
    np.testing.assert_allclose(course.get_xydata(), [[0, 1], [1, 1.2], [2.5, 0.8]])
    assert not beside.axison, "events have no bands"


def test_each_clip_has_its_own_panels_and_its_notes():
    rows = pd.concat(
        [
            table(*attended("attention", (0.5,), (1.0,), (1.0,), c), (c, 8, "attention_band", 1, None, None))
            for c in "ab"
        ]
    )
    figure = attention_over_notes(rows, pd.concat([piano("a"), piano("b").iloc[:2]]), "")
    assert [len(figure.axes[i].patches) for i in (2, 6)] == [4, 2]
    with pytest.raises(ValueError, match="clip='b' has attention but no notes"):
        attention_over_notes(rows, piano("a"), "")
