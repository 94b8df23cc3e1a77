"""Every table of the project: columns, types, ranges, keys and what they mean.

One declaration serves the Parquet parts, the DuckDB snapshot, the checks and the column descriptions in the UI.
`docs/data.md` is the reader's version. The column `corpus` is added when parts enter the snapshot.
"""

from piano_assets.schemas import corpus, probes, results, scoring, training
from piano_assets.schemas.columns import (
    LEVELS,
    POPULATIONS,
    ROLES,
    RULES,
    SUBJECT_KINDS,
    TUNINGS,
    TYPES,
    VERDICTS,
    Column,
    Table,
    TableError,
)

TABLES: dict[str, Table] = {
    t.name: t for t in (*corpus.TABLES, *training.TABLES, *results.TABLES, *probes.TABLES, *scoring.TABLES)
}

MARGINS: dict[str, float] = {"pearson_mean": 0.02, "r2_pooled": 0.03}
"""Equivalence margins in mean r and in R2, fixed before any result was seen."""

__all__ = [
    "LEVELS",
    "MARGINS",
    "POPULATIONS",
    "ROLES",
    "RULES",
    "SUBJECT_KINDS",
    "TABLES",
    "TUNINGS",
    "TYPES",
    "VERDICTS",
    "Column",
    "Table",
    "TableError",
]
