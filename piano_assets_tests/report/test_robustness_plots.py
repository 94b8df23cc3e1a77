"""What is drawn is what was given, read back from the figures."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_hex

from piano_assets.report.plots import CEILING, LOOKUP, png
from piano_assets.report.robustness_plots import COLOURS, SCALES, robustness_curves, scale_of


def rows(probe: str, kinds: dict[str, tuple], subjects=("ast|0", "forest|0"), metric="pearson_mean") -> pd.DataFrame:
    """Rows of `robustness` with made-up values, different everywhere, and a clean one for each subject."""
    rng, found = np.random.default_rng(2), []
    for subject in subjects:
        told = {"subject": subject, "probe": probe, "population": "all", "dimension": "mean", "metric": metric}
        for condition, steps in {"clean": (np.nan,), **kinds}.items():
            for step in steps:
                value = rng.uniform(0.2, 0.6)
                ci = {"ci_low": value - 0.05, "ci_high": value + 0.03}
                found.append({**told, "condition": condition, "step": step, "value": value, **ci})
    return pd.DataFrame(found)


NOISE = rows("noise", {"white": (40, 20, 0), "pink": (40, 0)})


def curve(axis, colour: str) -> np.ndarray:
    """(n, 2) points of the one curve of a colour."""
    (line,) = [x for x in axis.lines if to_hex(x.get_color()) == colour and marked(x) and len(x.get_xdata()) > 1]
    return np.c_[line.get_data()]


def marked(line) -> bool:
    return line.get_marker() == "o"


def test_a_panel_for_each_kind_with_values_over_strength_and_bands():
    figure = robustness_curves(NOISE.sample(frac=1, random_state=0).sort_values("condition"), "noise", "title")
    assert figure._suptitle.get_text() == "title"
    assert [axis.get_title() for axis in figure.axes] == ["pink", "white"]
    for axis, kind in zip(figure.axes, ("pink", "white"), strict=True):
        assert axis.get_xlabel() == "signal-to-noise ratio (dB)"
        assert axis.xaxis_inverted()  # the strongest noise has the smallest ratio, and stands at the right
        bands = [c for c in axis.collections if isinstance(c, PolyCollection)]
        for subject, colour, band in zip(("ast|0", "forest|0"), COLOURS, bands, strict=False):
            one = NOISE[(NOISE["condition"] == kind) & (NOISE["subject"] == subject)].sort_values("step")
            np.testing.assert_array_equal(curve(axis, colour), one[["step", "value"]])
            vertices = band.get_paths()[0].vertices
            for step, low, high in one[["step", "ci_low", "ci_high"]].to_numpy():
                assert {low, high} <= set(vertices[vertices[:, 0] == step][:, 1])
    assert png(figure).startswith(b"\x89PNG")


def test_lines_stand_at_clean_lookup_and_ceiling():
    figure = robustness_curves(NOISE, "noise", "", lookup=0.31, ceiling=0.83)
    clean = NOISE[NOISE["condition"] == "clean"].set_index("subject")["value"]
    for axis in figure.axes:
        level = {(to_hex(x.get_color()), x.get_linestyle()): x.get_ydata()[0] for x in axis.lines if len(x.get_ydata())}
        assert level[LOOKUP, "--"] == 0.31
        assert level[CEILING, "--"] == 0.83
        assert level[COLOURS[0], ":"] == clean["ast|0"]
        assert level[COLOURS[1], ":"] == clean["forest|0"]
    texts = [t.get_text() for t in figure.legends[0].get_texts()]
    assert texts == ["ast|0", "forest|0", "clean", "best lookup", "ceiling"]


def test_kinds_without_strength_share_a_panel_of_points():
    table = rows("recording_quality", {"fluidsynth": (np.nan,), "modal": (np.nan,), "gain": (-12, -6, 6)})
    figure = robustness_curves(table, "recording_quality", "")
    gain, points = figure.axes
    assert gain.get_title() == "gain"
    assert [t.get_text() for t in points.get_xticklabels()] == ["fluidsynth", "modal"]
    for subject, colour in zip(("ast|0", "forest|0"), COLOURS, strict=False):
        want = table[(table["subject"] == subject) & table["condition"].isin(["fluidsynth", "modal"])]["value"]
        np.testing.assert_array_equal(curve(points, colour)[:, 1], want)


def test_changes_are_drawn_around_zero():
    table = rows("tempo", {"rerendered": (0.7, 1.5)}, metric="mean_shift")
    table = table[table["condition"] != "clean"]
    (axis,) = robustness_curves(table, "tempo", "", metric="mean_shift").axes
    assert [x.get_ydata()[0] for x in axis.lines if x.get_linestyle() == ":" and len(x.get_ydata())] == [0]
    assert axis.get_ylabel() == "shift of predictions"
    assert axis.get_xscale() == "log"


def test_a_curve_passes_through_the_unaltered_clip_where_it_has_a_place():
    table = rows("recording_quality", {"gain": (-12, -6, 6)}, subjects=("ast|0",))
    (axis,) = robustness_curves(table, "recording_quality", "").axes
    clean = table["value"].iloc[0]
    (line,) = [x for x in axis.lines if x.get_linestyle() == "-" and len(x.get_xdata()) > 1]
    np.testing.assert_array_equal(line.get_xdata(), [-12, -6, 0, 6])
    assert line.get_ydata()[2] == clean
    (hollow,) = [x for x in axis.lines if x.get_markerfacecolor() == "white"]
    assert (hollow.get_xdata()[0], hollow.get_ydata()[0]) == (0, clean)


def test_only_what_was_asked_for_is_drawn():
    other = NOISE.assign(dimension="tempo_fast_slow", value=0.9)
    (pink, white) = robustness_curves(pd.concat([NOISE, other]), "noise", "", dimension="tempo_fast_slow").axes
    assert set(curve(white, COLOURS[0])[:, 1]) == {0.9}
    assert "tempo_fast_slow" in white.get_ylabel() + pink.get_ylabel()
    with pytest.raises(ValueError, match="no rows of probe 'noise', metric 'mse'"):
        robustness_curves(NOISE, "noise", "", metric="mse")


def test_every_probe_of_sound_has_its_axis():
    from piano_assets.analysis.robustness.noise import NOISE
    from piano_assets.analysis.robustness.recording_quality import RECORDING_QUALITY
    from piano_assets.analysis.robustness.tempo import TEMPO

    for a in (*NOISE, *TEMPO, *RECORDING_QUALITY):
        assert a.strength is None or scale_of(a.probe, a.kind).label != "strength"
    assert scale_of("adversarial", "fgsm").label == "strength"
    assert all(scale.kind in ("linear", "log") for scale in SCALES.values())
