"""The leaderboard for the terminal and for Markdown: one block per protocol."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pandas as pd

if TYPE_CHECKING:
    from rich.table import Table

HEAD = ("rank", "subject", "seeds", "R2", "r", "R2 by fold", "flat r", "R2 humans", "r within", "lookup", "ceiling")


def board_rows(protocol: pd.DataFrame) -> list[tuple[str, ...]]:
    """Cells of one protocol's rows, as `HEAD` names them; intervals in brackets."""
    return [
        (
            "" if pd.isna(row.rank) else str(int(row.rank)),
            f"{row.subject}{'' if row.complete else ' (incomplete)'}{' *' if has_caveat(row.caveat) else ''}",
            str(row.n_seeds or ""),
            _with_interval(row.r2_pooled, row.r2_pooled_low, row.r2_pooled_high),
            _with_interval(row.pearson_mean, row.pearson_mean_low, row.pearson_mean_high),
            _with_interval(row.r2_fold_mean, row.r2_fold_mean_low, row.r2_fold_mean_high),
            _with_interval(row.pearson_flat_z, row.pearson_flat_z_low, row.pearson_flat_z_high),
            _with_interval(row.humans_r2, row.humans_r2_low, row.humans_r2_high),
            _with_interval(row.within_excerpt_r, row.within_excerpt_r_low, row.within_excerpt_r_high),
            f"{_number(row.lookup_r2)} / {_number(row.lookup_r)}".strip(" /"),
            f"{_number(row.ceiling_r2)} / {_number(row.ceiling_r)}".strip(" /"),
        )
        for row in protocol.itertuples()
    ]


def has_caveat(caveat: object) -> bool:
    """Is there one? A frame that was read back has NaN, which is true, where a caveat is missing."""
    return isinstance(caveat, str) and caveat != ""


def protocols(board: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """(title, rows) of each split and rule; our own protocol first."""
    found = list(board.groupby(["split", "rule"], sort=True))
    for (split, rule), rows in sorted(found, key=lambda g: (g[0] != ("cluster", "clean"), g[0])):
        yield f"split {split}, {rule} labels, {rows['aggregation'].iloc[0].replace('_', ' ')}", rows


def with_models(board: pd.DataFrame) -> pd.DataFrame:
    """The protocols on which an arm, an ensemble or a published result stands; on the others only lookups do."""
    return board[
        board.groupby(["split", "rule"])["kind"].transform(
            lambda kind: kind.isin(["arm", "ensemble", "adaptation", "published"]).any()
        )
    ]


def board_text(board: pd.DataFrame, width: int | None = None) -> "Iterator[Table]":
    """One rich table per protocol, lookup and ceiling in its title.

    Args:
        width: characters of the terminal. Columns that do not fit are left out, secondary ones first; the R2 that the
            protocol ranks by and r always stand. None: all that have a value.
    """
    from rich.table import Table

    for title, rows in protocols(board):
        cells = pd.DataFrame(board_rows(rows), columns=list(HEAD))
        beside = [f"{name} R2 / r {next(filter(None, cells[name]), 'unknown')}" for name in ("lookup", "ceiling")]
        table = Table(title="\n".join([title, ", ".join(beside)]), title_justify="left", title_style="bold")
        for name in _fitting(cells, rows["aggregation"].iloc[0] == "pooled", width):
            if name == "subject":
                table.add_column(name, overflow="fold", min_width=12)
            else:
                table.add_column(name, justify="right", no_wrap=True)
        shown = [str(c.header) for c in table.columns]
        for row in cells[shown].itertuples(index=False):
            table.add_row(*row)
        yield table


_LEFT_OUT_FIRST = ("r within", "R2 humans", "flat r", "seeds")
_LEAST_SUBJECT = 20


def _fitting(cells: pd.DataFrame, pooled: bool, width: int | None) -> list[str]:
    """The columns that fit `width`, in the order of `HEAD`; what is empty in every row is left out."""
    shown = [c for c in HEAD if c not in ("lookup", "ceiling") and (c in ("rank", "subject") or cells[c].any())]
    for name in (*_LEFT_OUT_FIRST, "R2 by fold" if pooled else "R2"):
        widths = [max(len(c), int(cells[c].str.len().max())) if c != "subject" else _LEAST_SUBJECT for c in shown]
        if width is None or sum(widths) + 3 * len(shown) + 1 <= width:
            break
        shown = [c for c in shown if c != name]
    return shown


ASIDE: dict[str, tuple[str, ...]] = {
    "pooled": ("R2 by fold", "flat r"),
    "mean_of_folds": ("R2", "R2 humans", "r within"),
}
"""Columns that Markdown leaves out, by how the protocol aggregates: the ones that it does not rank by."""


def board_markdown(board: pd.DataFrame) -> str:
    """All protocols as Markdown tables, each with the columns that its protocol is about."""
    blocks = []
    for title, rows in protocols(board):
        kept = [i for i, name in enumerate(HEAD) if name not in ASIDE[rows["aggregation"].iloc[0]]]
        escaped = ([cells[i].replace("|", "\\|") for i in kept] for cells in (HEAD, *board_rows(rows)))
        lines = ["| " + " | ".join(cells) + " |" for cells in escaped]
        blocks.append("\n".join([f"**{title}**", "", lines[0], "|" + "---|" * len(kept), *lines[1:]]))
    return "\n\n".join(blocks)


def _number(x: float | None) -> str:
    return "" if x is None or pd.isna(x) else f"{x:.3f}"


def _with_interval(x: float, low: float, high: float) -> str:
    if pd.isna(x):
        return ""
    return f"{x:.3f}" if pd.isna(low) or pd.isna(high) else f"{x:.3f} [{low:.2f}, {high:.2f}]"
