"""What a column and a table are, and the columns that many tables share."""

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd
import pyarrow as pa

from piano_assets.dimensions import NAMES

TYPES: dict[str, pa.DataType] = {
    "text": pa.string(),
    "integer": pa.int32(),
    "long": pa.int64(),
    "float": pa.float64(),
    "float32": pa.float32(),
    "flag": pa.bool_(),
    "time": pa.timestamp("us", tz="UTC"),
}


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column: its type (a key of `TYPES`), its meaning, and what a legal value is."""

    type: str
    description: str
    nullable: bool = False
    low: float | None = None
    high: float | None = None
    values: tuple[str, ...] | None = None

    def broken(self, values: pd.Series) -> Iterator[tuple[str, pd.Series]]:
        """Each rule of the column in words, and where `values` break it. NULL breaks no range."""
        null = values.isna()
        if not self.nullable:
            yield "must not be NULL", null
        if self.low is not None:
            yield f"must be >= {self.low:g}", ~null & ~(values >= self.low).fillna(False).astype(bool)
        if self.high is not None:
            yield f"must be <= {self.high:g}", ~null & ~(values <= self.high).fillna(False).astype(bool)
        if self.values is not None:
            yield f"must be one of {', '.join(self.values)}", ~null & ~values.isin(self.values)


class TableError(ValueError):
    """A frame that breaks its table's declaration; the message names table, rule, value and row."""


@dataclass(frozen=True)
class Table:
    """One table: its columns in order and the key whose values may not repeat."""

    name: str
    description: str
    columns: dict[str, Column]
    key: tuple[str, ...] = ()

    @property
    def arrow_schema(self) -> pa.Schema:
        return pa.schema([pa.field(n, TYPES[c.type], nullable=c.nullable) for n, c in self.columns.items()])

    def empty(self) -> pd.DataFrame:
        return self.arrow_schema.empty_table().to_pandas()

    def conform(self, frame: pd.DataFrame) -> pa.Table:
        """Return `frame` as an Arrow table in this table's column order and types.

        Raises:
            TableError: a column is missing or unknown, a value has the wrong type, lies outside its range, is null
                where it may not be, or a key repeats.
        """
        wrong = [f"missing column {c!r}" for c in self.columns if c not in frame.columns]
        wrong += [f"unknown column {c!r}" for c in frame.columns if c not in self.columns]
        if wrong:
            raise TableError(f"table {self.name!r}: {'; '.join(wrong)}")
        try:
            table = pa.Table.from_pandas(frame[list(self.columns)], schema=self.arrow_schema, preserve_index=False)
        except (pa.ArrowInvalid, pa.ArrowTypeError, ValueError) as error:
            raise TableError(f"table {self.name!r}: {error}") from error
        problems = self.violations(frame)
        if problems:
            raise TableError(f"table {self.name!r}: {'; '.join(problems[:5])}")
        return table.replace_schema_metadata(None)

    def violations(self, frame: pd.DataFrame) -> list[str]:
        """Say, one sentence each, which rules `frame` breaks; an empty list when it breaks none."""
        found = []
        for name, column in self.columns.items():
            values = frame[name]
            for rule, broken in column.broken(values):
                if broken.any():
                    first = values[broken].iloc[0]
                    found.append(f"column {name!r}: {rule}, broken by {int(broken.sum())} value(s), first {first!r}")
        repeated = frame.duplicated(list(self.key)) if self.key else pd.Series(False, index=frame.index)
        if repeated.any():
            first_key = frame.loc[repeated, list(self.key)].iloc[0].to_dict()
            found.append(f"key {self.key}: must be unique, broken by {int(repeated.sum())} row(s), first {first_key}")
        return found


def text(description: str, *, nullable: bool = False, values: tuple[str, ...] | None = None) -> Column:
    return Column(type="text", description=description, nullable=nullable, values=values)


def integer(description: str, low: float | None = None, high: float | None = None, nullable: bool = False) -> Column:
    return Column(type="integer", description=description, low=low, high=high, nullable=nullable)


def number(description: str, low: float | None = None, high: float | None = None, nullable: bool = False) -> Column:
    return Column(type="float", description=description, low=low, high=high, nullable=nullable)


def flag(description: str) -> Column:
    return Column(type="flag", description=description)


RULES = ("clean", "published")
ROLES = ("train", "valid", "test", "unused")
POPULATIONS = ("all", "humans")
LEVELS = ("global", "within_excerpt")
SUBJECT_KINDS = ("trial", "arm", "ensemble", "adaptation", "lookup", "published")
TUNINGS = ("tuned", "fixed")
VERDICTS = ("better", "worse", "equivalent", "inconclusive")

CLIP = text("file stem of one performance of one excerpt")
DIMENSION = text("one of the 19 rated dimensions", values=NAMES)
DIMENSION_OR_MEAN = text("one of the 19 dimensions, or their mean", values=(*NAMES, "mean"))
RULE = text("rule by which ratings became labels", values=RULES)
POPULATION = text("all clips, or those played by people", values=POPULATIONS)
LEVEL = text("as they are, or centred within excerpts of at least 5 clips", values=LEVELS)
SPLIT = text("name of the split")
REPEAT = integer("repeat of the fold assignment", 0)
FOLD = integer("outer fold", 0)
INNER_FOLD = integer("inner fold; NULL in the outer level", 0, nullable=True)
TRIAL = text("trial key: hash of what decides the result, without the seed")
SEED = integer("seed of initialisation, data order and repeat", 0)
SUBJECT = text("whatever has predictions: a trial with a seed, an arm, an ensemble, a lookup, a published result")
CI = {
    "ci_low": number("lower end of the 95 % interval", nullable=True),
    "ci_high": number("upper end of the 95 % interval", nullable=True),
}
