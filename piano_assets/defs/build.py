"""Put all definitions together. Nothing heavy is imported here: every Dagster process pays for it."""

import logging
from typing import Any

import dagster as dg

from piano_assets.defs import checks, corpus, data, features, jobs, results, training


@dg.logger({"log_level": dg.Field(str, default_value="INFO", description="Least level that is printed.")})
def plain_console(context: dg.InitLoggerContext) -> logging.Logger:
    """One short line a message: the step and what it says. Dagster's own events stay in the UI."""
    found = logging.getLogger("piano_assets")
    found.setLevel(context.logger_config["log_level"])
    if not found.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(_Plain())
        found.addHandler(handler)
        found.propagate = False
    return found


class _Plain(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        meta = getattr(record, "dagster_meta", {})
        said = meta.get("orig_message") or record.getMessage()
        return f"{self.formatTime(record, '%H:%M:%S')} {meta.get('step_key') or ''}: {said}"


def build_defs(resources: dict[str, Any] | None = None) -> dg.Definitions:
    """All definitions; tests pass their own resources."""
    return dg.Definitions(
        assets=[*corpus.ASSETS, *features.ASSETS, *training.ASSETS, *results.ASSETS],
        asset_checks=checks.CHECKS,
        jobs=[*training.JOBS, *jobs.JOBS],
        schedules=jobs.SCHEDULES,
        sensors=jobs.SENSORS,
        resources={"piano": data.PianoData(), **(resources or {})},
        loggers={"console": plain_console},
        executor=dg.in_process_executor,
    )
