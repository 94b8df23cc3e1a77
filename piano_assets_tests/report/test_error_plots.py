"""What is drawn is what was given, read back from the figures; the sound in the page is the clip's."""

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
import soundfile
from matplotlib.colors import to_hex

from piano_assets.analysis.diagnostics.error_analysis import error_analysis
from piano_assets.analysis.diagnostics.rows import table
from piano_assets.corpus.rendering.write import write_wav
from piano_assets.dimensions import NAMES
from piano_assets.report import error_plots
from piano_assets.report.error_plots import (
    CEILING,
    LOOKUP,
    PALE,
    SCORE,
    encoded,
    error_figure,
    importance_figure,
    size_figure,
    worst_clips,
)
from piano_assets.report.plots import png
from piano_assets_tests.analysis.diagnostics.planted_errors import corpus

pytestmark = pytest.mark.xdist_group("planted_errors")  # one worker makes what they share

FAMILIES = {"symbolic.pedal": 0.2, "symbolic.timing": 0.05, "audio.mfcc": 0.1, "symbolic": 0.5, "spectrogram": 0.3}


def importance_rows() -> pd.DataFrame:
    rows = []
    for name, value in FAMILIES.items():
        for ending, factor in (("", 1.0), (", within excerpts", 0.5)):
            step = np.nan if name == "spectrogram" else 10.0
            told = {"condition": name + ending, "step": step, "metric": "pearson_mean_drop"}
            for d, dimension in enumerate((*NAMES, "mean")):
                v = factor * value * (1 + d / 100 if dimension != "mean" else 1)
                row = told | {"dimension": dimension, "value": v, "ci_low": v - 0.02, "ci_high": v + 0.03}
                rows += [row | {"population": p} for p in ("all", "humans")]
                rows.append(row | {"population": "all", "metric": "r2_pooled_drop", "value": 9.0})
    rows.append(
        {"condition": "intact", "population": "all", "dimension": "mean", "metric": "pearson_mean", "value": 0.7}
    )
    return table(rows)


def bars(axis, colour: str) -> list[float]:
    return [p.get_width() for p in axis.patches if to_hex(p.get_facecolor()) == colour]


def test_importance_shows_families_and_sources_in_order_with_their_intervals():
    figure = importance_figure(importance_rows(), "title")
    families, heat, sources, _ = figure.axes
    assert [t.get_text() for t in families.get_yticklabels()] == [
        "symbolic.pedal (10)", "audio.mfcc (10)", "symbolic.timing (10)",
    ]  # fmt: skip
    assert [t.get_text() for t in sources.get_yticklabels()] == ["symbolic (10)", "spectrogram"]
    np.testing.assert_allclose(bars(families, SCORE), [0.2, 0.1, 0.05])
    np.testing.assert_allclose(bars(families, PALE), [0.1, 0.05, 0.025])
    np.testing.assert_allclose(bars(sources, SCORE), [0.5, 0.3])
    ends = [segment[:, 0] for c in families.collections for segment in c.get_segments()]
    np.testing.assert_allclose(ends[0], [0.18, 0.23])
    assert families.yaxis_inverted(), "the largest is on top"
    grid = heat.images[0].get_array()
    np.testing.assert_allclose(grid[0], 0.2 * (1 + np.arange(19) / 100))
    assert png(figure)[:4] == b"\x89PNG"


def test_importance_without_whole_sources_has_one_row():
    rows = importance_rows()
    assert len(importance_figure(rows[rows["condition"].str.contains(r"\.")], "").axes) == 2


@pytest.fixture(scope="module")
def errors() -> tuple[pd.DataFrame, pd.DataFrame]:
    """(rows, clips)."""
    pred, clips, labels, _ = corpus(np.random.default_rng(8))
    few = clips["excerpt"] < "e05"
    return error_analysis(pred[few.to_numpy()], clips[few], labels[labels["clip"].isin(clips["clip"][few])]), clips


def chosen(rows: pd.DataFrame, **values) -> pd.DataFrame:
    for column, value in values.items():
        rows = rows[rows[column] == value]
    return rows


def dots(axis, colour: str) -> list[np.ndarray]:
    return [np.c_[line.get_data()] for line in axis.lines if to_hex(line.get_color()) == colour]


def test_error_figure_shows_slopes_shares_and_means(errors):
    rows, _ = errors
    figure = error_figure(rows, "title")
    forest, shares, groups, ranked = figure.axes
    slopes = chosen(rows, metric="rmse_slope").set_index("condition")["value"].dropna()
    labels = [t.get_text().replace(" ", "_") for t in forest.get_yticklabels()]
    np.testing.assert_allclose(dots(forest, SCORE)[0][:, 0], [slopes[name] for name in labels])
    assert labels[-1] == "duration", "the first on top"

    error = chosen(rows, metric="rmse_share").set_index("condition")["value"]
    total = chosen(rows, metric="residual_share", condition="excerpt").set_index("dimension")["value"]
    drawn = dict(zip([t.get_text() for t in shares.get_yticklabels()], bars(shares, SCORE), strict=True))
    assert drawn["error (rmse)"] == pytest.approx(error["excerpt"])
    ends = [[(p.get_x(), p.get_x() + p.get_width()) for p in shares.patches[k * 21 : (k + 1) * 21]] for k in range(3)]
    for (start, one), (again, two), (last, end) in zip(*ends, strict=True):
        np.testing.assert_allclose([start, again, last, end], [0, one, two, 1], err_msg="parts of a bar follow on")
    for name in (*NAMES, "mean"):
        shown = "mean residual" if name == "mean" else name
        assert drawn[shown] == pytest.approx(total[name])

    means = chosen(rows, metric="mean_rmse").set_index(["condition", "step"])["value"]
    shown = dict(zip([t.get_text() for t in groups.get_yticklabels()], dots(groups, SCORE)[0][:, 0], strict=True))
    assert shown["all"] == pytest.approx(means[("all", np.nan)])
    assert shown["duration: highest third"] == pytest.approx(means[("tercile of duration", 3)])
    assert shown["rater count: lowest third"] == pytest.approx(means[("tercile of rater count", 1)])

    for colour, grouping in ((SCORE, "excerpt"), (LOOKUP, "performer")):
        of = chosen(rows, metric="mean_rmse")
        of = of[of["condition"].str.startswith(grouping + "=")]["value"]
        np.testing.assert_allclose(dots(ranked, colour)[0][:, 1], np.sort(of))
    assert png(figure)[:4] == b"\x89PNG"


def test_error_figure_is_drawn_where_no_model_converged(errors):
    rows = errors[0].copy()
    rows.loc[rows["metric"].str.contains("slope|share"), ["value", "ci_low", "ci_high"]] = np.nan
    assert png(error_figure(rows, ""))[:4] == b"\x89PNG"


def size_rows() -> pd.DataFrame:
    n = np.array([100.0, 200, 400, 800])
    rows = []
    for metric, a, b, c in (("pearson_mean", 0.8, 3.0, 0.5), ("r2_pooled", 0.6, 2.0, 0.4)):
        base = {"population": "all", "dimension": "mean"}
        r = a - b * n**-c
        for m, v in zip(n, r, strict=True):
            told = {"condition": "size", "step": m, "metric": metric, "value": v}
            rows.append(base | told | {"ci_low": v - 0.1, "ci_high": v + 0.1})
        for name, v in zip("abc", (a, b, c), strict=True):
            rows.append(base | {"condition": "power law", "metric": f"{metric}_{name}", "value": v})
        if metric == "pearson_mean":
            rows.append(
                base | {"condition": "size doubled", "step": 1600.0, "metric": metric, "value": a - b * 1600**-c}
            )
    reason = {"condition": "size doubled: the curve shows no bend", "step": 1600.0, "metric": "r2_pooled"}
    rows.append({"population": "all", "dimension": "mean", "value": np.nan} | reason)
    return table(rows)


def epoch_rows() -> pd.DataFrame:
    return table(
        {"condition": "epoch", "step": float(e), "population": "all", "dimension": "mean", "metric": m, "value": v + e}
        for e in range(3)
        for m, v in (("train_loss", 1.0), ("valid_loss", 2.0), ("valid_r", 3.0))
    )


def test_size_figure_shows_points_law_and_doubling():
    rows = size_rows()
    (axis,) = size_figure(rows, "title").axes
    points, law, ahead = dots(axis, SCORE)
    np.testing.assert_allclose(points, np.c_[[100, 200, 400, 800], 0.8 - 3 * np.array([100, 200, 400, 800]) ** -0.5])
    np.testing.assert_allclose(law[:, 1], 0.8 - 3 * law[:, 0] ** -0.5)
    np.testing.assert_allclose([law[0, 0], law[-1, 0]], [100, 1600])
    np.testing.assert_allclose(ahead, [[1600, 0.8 - 3 / 40]])
    assert len(dots(axis, CEILING)) == 1, "a law without a prediction is not drawn"
    assert [t.get_text() for t in axis.get_xticklabels()] == ["100", "200", "400", "800", "1600"]


def test_size_figure_shows_epochs_of_networks():
    figure = size_figure(pd.concat([epoch_rows(), size_rows()]), "")
    loss, r, _ = figure.axes
    train, valid = (np.c_[line.get_data()] for line in loss.lines)
    np.testing.assert_allclose(train, [[1, 1], [2, 2], [3, 3]])
    np.testing.assert_allclose(valid[:, 1], [2, 3, 4])
    np.testing.assert_allclose(r.lines[0].get_ydata(), [3, 4, 5])
    assert len(size_figure(epoch_rows(), "").axes) == 2
    with pytest.raises(ValueError, match="neither epochs nor sizes"):
        size_figure(size_rows().iloc[:0], "")


class Page(HTMLParser):
    """Tags must close in order; texts and sources of sound are kept."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open, self.sounds, self.texts, self.circles = [], [], [], []
        self.feed(text)
        assert not self.open, f"{self.open} stay open"

    def handle_starttag(self, tag, attributes):
        of = dict(attributes)
        if tag == "audio":
            assert "controls" in of
            self.sounds.append(of["src"])
        if tag not in ("br", "line", "circle"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        if tag == "circle":
            self.circles.append(float(dict(attributes)["cx"]))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def tone(seconds: float, hz: float) -> np.ndarray:
    t = np.arange(round(22050 * seconds)) / 22050
    return (0.4 * np.sin(2 * np.pi * hz * t) * np.exp(-t)).astype(np.float32)


def test_worst_clips_hold_the_clips_sound_and_their_worst_dimensions(errors, tmp_path):
    rows, clips = errors
    worst = chosen(rows, metric="rmse").sort_values("step")["condition"].tolist()
    for i, clip in enumerate(worst[:9]):
        write_wav(tmp_path / f"{clip}.wav", tone(1 + 0.1 * i, 300 + 50 * i), 22050)
    page = Page(worst_clips(rows, clips, {clip: tmp_path / f"{clip}.wav" for clip in worst[:9]}))
    assert [t for t in page.texts if t in worst] == worst
    assert page.texts.count("no recording here") == 1
    for i, source in enumerate(page.sounds):
        kind, _, data = source.partition(";base64,")
        assert kind == "data:audio/ogg"
        sound, rate = soundfile.read(io.BytesIO(base64.b64decode(data)))
        assert rate == 22050
        assert len(sound) == round(22050 * (1 + 0.1 * i))
        # Vorbis keeps what is heard, not the samples: at this quality a tone correlates by far more than .99.
        assert np.corrcoef(sound, tone(1 + 0.1 * i, 300 + 50 * i))[0, 1] > 0.99
    told = re.findall(r"rated (\d\.\d\d), predicted (\d\.\d\d)", " ".join(page.texts))
    first = rows[rows["condition"] == worst[0]].pivot_table(index="dimension", columns="metric", values="value")
    gap = (first["predicted"] - first["rated"]).abs().drop("mean").sort_values(ascending=False)
    want = [(f"{first.at[d, 'rated']:.2f}", f"{first.at[d, 'predicted']:.2f}") for d in gap.index]
    assert told[:3] == want
    assert len(told) == 30
    ring, dot = page.circles[:2]
    assert (ring - 8) / 204 == pytest.approx(first.at[gap.index[0], "rated"], abs=0.001)  # tenths of a pixel
    assert (dot - 8) / 204 == pytest.approx(first.at[gap.index[0], "predicted"], abs=0.001)


def test_long_sound_is_encoded_and_small():
    samples = tone(90, 440) + 0.1 * np.random.default_rng(1).normal(size=90 * 22050).astype(np.float32)
    _, sound = encoded(samples)
    assert len(soundfile.read(io.BytesIO(sound))[0]) == len(samples)
    assert len(sound) < len(samples) * 2 / 3


def test_without_vorbis_the_sound_is_flac(monkeypatch):
    formats = {k: v for k, v in soundfile.available_formats().items() if k != "OGG"}
    monkeypatch.setattr(soundfile, "available_formats", lambda: formats)
    kind, sound = encoded(tone(1, 440))
    assert kind == "audio/flac"
    # 16 bits: half a step of 2^-15 at most, where the file is not clipped.
    assert abs(soundfile.read(io.BytesIO(sound))[0] - tone(1, 440)).max() < 2**-15


def test_names_are_escaped(errors, tmp_path):
    rows, clips = errors
    clip = chosen(rows, metric="rmse").sort_values("step")["condition"].iloc[0]
    odd = rows.replace({"condition": {clip: "<b>&"}})
    page = worst_clips(odd, clips.replace({"clip": {clip: "<b>&"}}), {})
    assert "&lt;b&gt;&amp;" in page
    assert error_plots.html.escape("<b>&") in page
