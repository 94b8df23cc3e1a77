"""What is drawn is what was given, read back from the figures."""

import base64

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from piano_assets.dimensions import NAMES
from piano_assets.report.plots import (
    CEILING,
    CEILING_ROW,
    LOOKUP,
    SCORE,
    data_uri,
    dimension_bars,
    dimension_heat,
    learning_curves,
    png,
    predicted_against_rated,
    protocol_forest,
    thumbnail,
)
from piano_assets_tests.report.small_tables import board, board_row


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(3)


@pytest.fixture
def bars(rng) -> pd.DataFrame:
    value = rng.uniform(0.2, 0.8, len(NAMES))
    rows = pd.DataFrame({"dimension": NAMES, "value": value, "ci_low": value - 0.1, "ci_high": value + 0.05})
    return rows.assign(lookup=rng.uniform(0, 0.2, len(NAMES)), ceiling=rng.uniform(0.8, 0.95, len(NAMES)))


def lines(axis, colour: str) -> list[np.ndarray]:
    """(n, 2) points of each line of a colour."""
    return [np.c_[line.get_data()] for line in axis.lines if to_hex(line.get_color()) == colour]


def scenes(n_clips: int, rng: np.random.Generator) -> tuple[pd.DataFrame, pd.DataFrame]:
    clips = [f"c{i}" for i in range(n_clips)]
    pred, target = (pd.DataFrame(rng.uniform(0.2, 0.9, (n_clips, 19)), clips, list(NAMES)) for _ in range(2))
    return pred, target.assign(deadpan=np.arange(n_clips) % 3 == 0)


def test_scatter_shows_label_and_prediction_of_every_clip_and_separates_deadpan(rng):
    pred, target = scenes(10, rng)
    figure = predicted_against_rated(pred, target, "title")
    assert figure._suptitle.get_text() == "title"
    deadpan = target["deadpan"].to_numpy()
    for axis, name in zip(figure.axes, NAMES, strict=False):
        people, software = (np.asarray(c.get_offsets()) for c in axis.collections)
        np.testing.assert_array_equal(people, np.c_[target[name], pred[name]][~deadpan])
        np.testing.assert_array_equal(software, np.c_[target[name], pred[name]][deadpan])
        filled, hollow = axis.collections
        assert len(filled.get_facecolors()) == 1
        assert len(hollow.get_facecolors()) == 0
        r = np.corrcoef(target[name], pred[name])[0, 1]
        assert axis.get_title() == f"{name}\nr = {r:.2f}"
    assert not figure.axes[19].axison, "the twentieth panel has no dimension"


def test_scatter_without_deadpan_column_shows_all_as_people(rng):
    pred, target = scenes(5, rng)
    figure = predicted_against_rated(pred, target.drop(columns="deadpan"), "")
    assert [len(c.get_offsets()) for c in figure.axes[0].collections] == [5, 0]


def test_scatter_names_no_correlation_that_is_undefined(rng):
    pred, target = scenes(4, rng)
    pred.iloc[2:, 0] = np.nan
    assert predicted_against_rated(pred, target, "").axes[0].get_title().endswith("r = nan")


def test_bars_are_the_values_with_their_intervals_and_marks(bars):
    (axis,) = dimension_bars(bars, "title").axes
    named = bars.set_index("dimension").loc[[t.get_text() for t in axis.get_yticklabels()]]
    (bar_container,) = (c for c in axis.containers if hasattr(c, "patches"))
    widths = [p.get_width() for p in bar_container.patches]
    np.testing.assert_allclose(widths, named["value"])
    assert widths == sorted(widths), "best dimension on top"
    (errors,) = (c for c in axis.containers if not hasattr(c, "patches"))
    ends = np.array([segment[:, 0] for segment in errors.lines[2][0].get_segments()])
    np.testing.assert_allclose(ends, named[["ci_low", "ci_high"]])
    np.testing.assert_allclose(lines(axis, LOOKUP)[0][:, 0], named["lookup"])
    np.testing.assert_allclose(lines(axis, CEILING)[0][:, 0], named["ceiling"])


def test_a_bar_without_interval_has_no_whiskers(bars):
    bars.loc[0, ["ci_low", "ci_high"]] = np.nan
    (axis,) = dimension_bars(bars, "").axes
    (errors,) = (c for c in axis.containers if not hasattr(c, "patches"))
    lengths = [np.ptp(segment[:, 0]) for segment in errors.lines[2][0].get_segments()]
    assert sorted(lengths)[0] == 0
    np.testing.assert_allclose(sorted(lengths)[1:], 0.15)


def test_learning_curves_are_means_over_members_that_keep_their_last_value():
    """Two folds of one arm, of which the second stops after two epochs; worked out by hand."""
    member = {"trial": "t", "seed": 0, "inner_fold": None, "search_point": "fixed", "arm": "mse"}
    losses = {0: [4.0, 2.0, 1.0], 1: [2.0, 1.0]}
    rows = [
        member | {"fold": f, "epoch": e, "train_loss": x, "valid_loss": 3 * x, "valid_r": 1 - x / 4}
        for f, curve in losses.items()
        for e, x in enumerate(curve)
    ]
    other = [row | {"arm": "huber", "trial": "u", "train_loss": 1.0} for row in rows]
    figure = learning_curves(pd.DataFrame([*reversed(rows), *other]), "")
    loss, r = figure.axes
    train, valid = loss.lines[2:]  # the arms in alphabetical order
    np.testing.assert_allclose(train.get_xydata(), [[1, 1], [2, 0.5], [3, 1 / 3]])
    np.testing.assert_allclose(valid.get_xydata(), [[1, 3], [2, 1.5], [3, 1]])
    np.testing.assert_allclose(r.lines[1].get_xydata(), [[1, 0.25], [2, 1 - 1.5 / 4], [3, 0.75]])
    assert [line.get_label() for line in r.lines] == ["huber", "mse"]
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["huber", "mse"]


def test_the_heat_map_orders_subjects_and_ends_with_the_ceiling(rng):
    values = {"weak": 0.2, CEILING_ROW: 0.9, "strong": 0.6}
    rows = [
        {"subject": s, "dimension": d, "value": v + 0.01 * i} for s, v in values.items() for i, d in enumerate(NAMES)
    ]
    rows[3]["value"] = np.nan
    axis = dimension_heat(pd.DataFrame(rows).sample(frac=1, random_state=0), "title").axes[0]
    assert [t.get_text() for t in axis.get_yticklabels()] == ["strong", "weak", CEILING_ROW]
    assert [t.get_text() for t in axis.get_xticklabels()] == list(NAMES)
    shown = axis.images[0].get_array()
    np.testing.assert_allclose(shown[0], 0.6 + 0.01 * np.arange(19))
    assert len(axis.texts) == 3 * 19 - 1, "what is undefined stays blank"
    assert axis.texts[0].get_text() == ".60"


def test_the_forest_shows_intervals_lookup_and_ceiling():
    frame = board(
        board_row("best", r2_pooled=0.5, r2_pooled_low=0.4, r2_pooled_high=0.6, lookup_r2=0.17, ceiling_r2=0.76),
        board_row("unscored", lookup_r2=0.17, ceiling_r2=0.76),
        board_row("published", kind="published", r2_pooled=0.3, lookup_r2=0.17, ceiling_r2=0.76),
    )
    (axis,) = protocol_forest(frame, "r2_pooled", "title").axes
    assert [t.get_text() for t in axis.get_yticklabels()] == ["published", "best"], "best on top, unscored left out"
    points = [line for line in axis.lines if line.get_marker() == "o"]
    assert [line.get_xdata()[0] for line in points] == [0.3, 0.5]
    assert points[0].get_markerfacecolor() == "white", "a published result is hollow"
    (interval,) = (line for line in lines(axis, SCORE) if len(line) == 2)
    assert interval.tolist() == [[0.4, 1], [0.6, 1]]
    marks = {line.get_label(): line.get_xdata()[0] for line in axis.lines if line.get_linestyle() == "--"}
    assert marks == {"best lookup": 0.17, "ceiling": 0.76}


def test_a_forest_claims_an_interval_only_where_there_is_one():
    frame = board(board_row("best", r2_pooled=0.5, r2_pooled_low=0.4, r2_pooled_high=0.6, r2_fold_mean=0.4))
    labels = [protocol_forest(frame, m, "").axes[0].get_xlabel() for m in ("r2_pooled", "r2_fold_mean")]
    assert labels == ["r2_pooled, 95 % interval", "r2_fold_mean"]


def test_legends_hide_no_mark(bars):
    frame = board(board_row("best", r2_pooled=0.5, lookup_r2=0.17, ceiling_r2=0.76))
    for figure in (dimension_bars(bars, ""), protocol_forest(frame, "r2_pooled", "")):
        figure.draw_without_rendering()
        (legend,) = figure.legends
        assert [t.get_text() for t in legend.get_texts()] == ["best lookup", "ceiling"]
        assert not legend.get_window_extent().overlaps(figure.axes[0].get_window_extent())


def test_a_forest_of_correlations_shows_no_r2_marks():
    frame = board(board_row("best", pearson_mean=0.5, lookup_r2=0.17, ceiling_r2=0.76))
    (axis,) = protocol_forest(frame, "pearson_mean", "").axes
    assert not [line for line in axis.lines if line.get_linestyle() == "--"]


def test_equal_tables_give_equal_bytes(bars):
    first, second = (png(dimension_bars(bars, "title")) for _ in range(2))
    assert first == second
    assert first != png(dimension_bars(bars.assign(value=bars["value"] / 2), "title"))


def test_a_data_uri_holds_the_png(bars):
    figure = dimension_bars(bars, "title")
    head, _, body = data_uri(figure).partition(",")
    assert head == "data:image/png;base64"
    assert base64.b64decode(body) == png(figure)


def test_a_thumbnail_fits_and_is_a_picture(bars):
    import base64
    import io

    from PIL import Image

    uri = thumbnail(dimension_bars(bars, "title"))
    assert len(uri) <= 10_000
    width, height = Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).size
    assert width > 200
    assert height > 100
    with pytest.raises(ValueError, match="the limit is 100"):
        thumbnail(dimension_bars(bars, "title"), limit=100)
