"""The leaderboard as text: every cell is what the table says, and nothing is cut off."""

import io

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from piano_assets.report.board import ASIDE, HEAD, board_markdown, board_rows, board_text, protocols
from piano_assets_tests.report.small_tables import board, board_row, report_tables

FULL = {
    "rank": 1,
    "n_seeds": 5,
    "r2_pooled": 0.4961,
    "r2_pooled_low": 0.4394,
    "r2_pooled_high": 0.5527,
    "pearson_mean": -0.0004,
    "pearson_mean_low": -0.1,
    "pearson_mean_high": 0.1,
    "r2_fold_mean": 0.46,
    "pearson_flat_z": 0.705,
    "humans_r2": 0.4381,
    "within_excerpt_r": 0.45,
    "lookup_r2": 0.1745,
    "lookup_r": 0.4072,
    "ceiling_r2": 0.7647,
}


def cells(**changes) -> dict[str, str]:
    (row,) = board_rows(board(board_row("family.ridge", **changes)))
    return dict(zip(HEAD, row, strict=True))


def shown(frame: pd.DataFrame, width: int | None = None, console_width: int = 200) -> str:
    console = Console(file=io.StringIO(), width=console_width)
    for table in board_text(frame, width):
        console.print(table)
    return console.file.getvalue()


def test_cells_say_what_the_table_says():
    assert cells(**FULL) == {
        "rank": "1",
        "subject": "family.ridge",
        "seeds": "5",
        "R2": "0.496 [0.44, 0.55]",
        "r": "-0.000 [-0.10, 0.10]",
        "R2 by fold": "0.460",
        "flat r": "0.705",
        "R2 humans": "0.438",
        "r within": "0.450",  # no interval is known: none is shown
        "lookup": "0.174 / 0.407",
        "ceiling": "0.765",  # and a missing half leaves no slash behind
    }


def test_missing_values_are_empty_cells():
    missing = cells()
    assert missing.pop("subject") == "family.ridge"
    assert set(missing.values()) == {""}


def test_half_an_interval_is_no_interval():
    assert cells(r2_pooled=0.5, r2_pooled_low=0.4)["R2"] == "0.500"


@pytest.mark.parametrize("caveat", [None, np.nan, ""])
def test_a_missing_caveat_gets_no_mark(caveat):
    """NaN is what a frame has that was read back; it counts as true in Python."""
    frame = board(board_row("family.ridge")).astype({"caveat": object}).assign(caveat=caveat)
    assert board_rows(frame)[0][1] == "family.ridge"


def test_incomplete_and_caveat_are_marked():
    assert cells(complete=False)["subject"] == "family.ridge (incomplete)"
    assert cells(caveat="smoke budget")["subject"] == "family.ridge *"
    assert cells(complete=False, caveat="why")["subject"] == "family.ridge (incomplete) *"


def test_our_own_protocol_comes_first_and_rows_keep_their_order():
    rows = [board_row(f"s{i}", split=s, rule=r) for i, (s, r) in enumerate(4 * [("composer", "clean")])]
    rows += [board_row("b", split="cluster", rule="published"), board_row("a", split="cluster", rule="clean")]
    found = list(protocols(board(*rows[::-1])))
    assert [title for title, _ in found] == [
        "split cluster, clean labels, pooled",
        "split cluster, published labels, pooled",
        "split composer, clean labels, pooled",
    ] or [title for title, _ in found] == [
        "split cluster, clean labels, pooled",
        "split composer, clean labels, pooled",
        "split cluster, published labels, pooled",
    ]
    assert next(r for t, r in found if "composer" in t)["subject"].tolist() == ["s3", "s2", "s1", "s0"]


def test_every_markdown_row_has_as_many_cells_as_the_head():
    """A seed's subject holds the very character that separates cells."""
    import re

    text = board_markdown(board(board_row("family.ridge|0", **FULL), board_row("other", caveat="c")))
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 4
    for row in rows:
        assert len(re.split(r"(?<!\\)\|", row.strip().strip("|"))) == len(HEAD) - len(ASIDE["pooled"])
    assert "family.ridge\\|0" in text


def test_markdown_has_one_table_per_protocol():
    frame = report_tables()["leaderboard"]
    assert board_markdown(frame).count("| rank |") == len(list(protocols(frame))) == 2


def test_an_empty_board_is_empty_text():
    assert board_markdown(board()) == ""
    assert shown(board()) == ""


def test_the_terminal_shows_every_value_with_its_protocol_lookup_and_ceiling():
    text = shown(board(board_row("family.ridge", **FULL)))
    assert "split cluster, clean labels, pooled" in text
    assert "lookup R2 / r 0.174 / 0.407, ceiling R2 / r 0.765" in text
    for value in ("0.496 [0.44, 0.55]", "0.460", "0.705", "0.438", "0.450"):
        assert value in text


@pytest.mark.parametrize("width", [72, 80, 100, 120, 160])
@pytest.mark.parametrize("aggregation", ["pooled", "mean_of_folds"])
def test_no_number_is_cut_in_a_narrow_terminal(width, aggregation):
    """Whole columns are left out instead; the R2 that ranks, r, and the whole name of the subject stay."""
    name = "lookup.a_very_long_name_of_a_subject@published"
    frame = board(board_row(name, aggregation=aggregation, **FULL))
    text = shown(frame, width, width)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
    assert ("0.496 [0.44, 0.55]" if aggregation == "pooled" else "0.460") in text
    assert "-0.000 [-0.10, 0.10]" in text
    subject = "".join(line.split("│")[2].strip() for line in text.splitlines() if line.startswith("│"))
    assert subject == name
    assert "lookup R2 / r 0.174 / 0.407" in " ".join(text.split())


def test_columns_without_a_value_are_left_out():
    text = shown(board(board_row("published", kind="published", r2_fold_mean=0.285)))
    assert "0.285" in text
    assert "flat r" not in text
