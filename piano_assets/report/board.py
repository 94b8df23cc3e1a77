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
            f"{row.subject}{'' if row.complete else ' (incomplete)'}{' *' if row.caveat else ''}",
            str(row.n_seeds or ""),
            _with_interval(row.r2_pooled, row.r2_pooled_low, row.r2_pooled_high),
            _with_interval(row.pearson_mean, row.pearson_mean_low, row.pearson_mean_high),
            _number(row.r2_fold_mean),
            _number(row.pearson_flat_z),
            _number(row.humans_r2),
            _with_interval(row.within_excerpt_r, row.within_excerpt_r_low, row.within_excerpt_r_high),
            f"{_number(row.lookup_r2)} / {_number(row.lookup_r)}".strip(" /"),
            f"{_number(row.ceiling_r2)} / {_number(row.ceiling_r)}".strip(" /"),
        )
        for row in protocol.itertuples()
    ]


def protocols(board: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """(title, rows) of each split and rule; our own protocol first."""
    found = list(board.groupby(["split", "rule"], sort=True))
    for (split, rule), rows in sorted(found, key=lambda g: (g[0] != ("cluster", "clean"), g[0])):
        yield f"split {split}, {rule} labels, {rows['aggregation'].iloc[0].replace('_', ' ')}", rows


def board_text(board: pd.DataFrame) -> "Iterator[Table]":
    """One rich table per protocol."""
    from rich.table import Table

    for title, rows in protocols(board):
        table = Table(title=title, title_justify="left", title_style="bold")
        for name in HEAD:
            table.add_column(name, justify="left" if name == "subject" else "right", no_wrap=True)
        for cells in board_rows(rows):
            table.add_row(*cells)
        yield table


def board_markdown(board: pd.DataFrame) -> str:
    """All protocols as Markdown tables."""
    blocks = []
    for title, rows in protocols(board):
        lines = ["| " + " | ".join(cells) + " |" for cells in (HEAD, *board_rows(rows))]
        blocks.append("\n".join([f"**{title}**", "", lines[0], "|" + "---|" * len(HEAD), *lines[1:]]))
    return "\n\n".join(blocks)


def _number(x: float | None) -> str:
    return "" if x is None or pd.isna(x) else f"{x:.3f}"


def _with_interval(x: float, low: float, high: float) -> str:
    if pd.isna(x):
        return ""
    return f"{x:.3f}" if pd.isna(low) or pd.isna(high) else f"{x:.3f} [{low:.2f}, {high:.2f}]"
