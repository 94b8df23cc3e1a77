"""What every asset shares: the store as a resource, and publishing a table as a part. No asset stands here."""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import dagster as dg
import pandas as pd

from piano_assets.defs.heartbeat import beating
from piano_assets.schemas import TABLES, Column
from piano_assets.store.location import open_store
from piano_assets.store.parts import Part, Store

OWNERS = ["team:piano_assets"]


class PianoData(dg.ConfigurableResource):
    """The data folder of one corpus; parts in it are the truth that Dagster's log mirrors."""

    root: str = os.environ.get("PIANO_DATA", "data")
    corpus: str = os.environ.get("PIANO_CORPUS", "percepiano")
    renderings: list[str] = os.environ.get("PIANO_RENDERINGS", "modal").split(",")
    """Which renderers make the sound, the first for every trial that names none: modal, fluidsynth."""

    def store(self) -> Store:
        return open_store(self.root, self.corpus)

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator["PianoData"]:
        """Every asset and op has this resource: while a run has it, the run shows that it lives."""
        run = context.run
        with nullcontext() if run is None else beating(self.store(), run.run_id):
            yield self


def describe(table: str) -> dict[str, Any]:
    """Static metadata of a table's asset: its columns, types and meanings, from the one declaration."""
    columns = [
        dg.TableColumn(name, c.type, c.description, dg.TableColumnConstraints(c.nullable, False, _other(c)))
        for name, c in TABLES[table].columns.items()
    ]
    return {"dagster/column_schema": dg.TableSchema(columns=columns), "table": table}


def _other(c: Column) -> list[str]:
    found = [f">= {c.low:g}"] if c.low is not None else []
    found += [f"<= {c.high:g}"] if c.high is not None else []
    return found + ([f"one of {', '.join(c.values)}"] if c.values and len(c.values) < 8 else [])


def spec(
    table: str, *, group: str, deps: list[str] | None = None, name: str = "", description: str = "", **more: Any
) -> dg.AssetSpec:
    """The asset of one table, or of a part of it under a name and description of its own."""
    return dg.AssetSpec(
        name or table,
        deps=deps,
        group_name=group,
        description=description or TABLES[table].description,
        metadata=describe(table),
        kinds={"parquet"},
        owners=OWNERS,
        **more,
    )


def result(part: Part, made: bool, asset: str = "", **metadata: Any) -> dg.MaterializeResult:
    """Tell Dagster about a part: rows, key, and whether it was computed now or reused."""
    return dg.MaterializeResult(
        asset_key=asset or part.table,
        metadata={
            "dagster/row_count": part.n_rows,
            "part_key": part.key,
            "path": dg.MetadataValue.path(str(part.path)),
            "reused": not made,
            **metadata,
        },
        data_version=dg.DataVersion(part.content_hash),
    )


def publish(
    store: Store,
    table: str,
    key: str,
    make: Callable[[], pd.DataFrame],
    name: str = "all",
    asset: str = "",
    **more: Any,
) -> dg.MaterializeResult:
    """Reuse or make a table that is one part, and tell Dagster about it."""
    part, made = store.ensure(table, name, key, make)
    return result(part, made, asset, **more)


def progress(context: Any, what: str) -> Callable[[int, int], None]:
    """A progress callback that logs every tenth of the way."""
    said = -1

    def report(done: int, total: int) -> None:
        nonlocal said
        tenth = 10 * done // max(total, 1)
        if tenth > said:
            said = tenth
            context.log.info(f"{what}: {done} of {total}")

    return report


@dg.logger({"log_level": dg.Field(str, default_value="INFO", description="Least level that is printed.")})
def plain_console(context: dg.InitLoggerContext) -> logging.Logger:
    """One short line a message: the step and what it says. Dagster's own events are for the UI."""
    found = logging.getLogger("piano_assets")
    found.setLevel(context.logger_config["log_level"])
    if not found.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(_Plain())
        handler.addFilter(lambda record: getattr(record, "dagster_meta", {}).get("dagster_event") is None)
        found.addHandler(handler)
        found.propagate = False
    return found


class _Plain(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        meta = getattr(record, "dagster_meta", {})
        said = meta.get("orig_message") or record.getMessage()
        return f"{self.formatTime(record, '%H:%M:%S')} {meta.get('step_key') or ''}: {said}"
