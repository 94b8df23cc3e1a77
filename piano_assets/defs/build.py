"""Put all definitions together. Nothing heavy is imported here: every Dagster process pays for it."""

from typing import Any

import dagster as dg

from piano_assets.defs import (
    adaptation,
    champion,
    checks,
    corpus,
    data,
    ensembles,
    executors,
    features,
    inbox,
    jobs,
    pretraining,
    probes,
    publishing,
    results,
    training,
    transcription,
)


def build_defs(resources: dict[str, Any] | None = None) -> dg.Definitions:
    """All definitions; tests pass their own resources."""
    return dg.Definitions(
        assets=[
            *(*corpus.ASSETS, *features.ASSETS, *transcription.ASSETS, *training.ASSETS, *ensembles.ASSETS),
            *(
                *champion.ASSETS,
                *inbox.ASSETS,
                *adaptation.ASSETS,
                *pretraining.ASSETS,
                *probes.ASSETS,
                *results.ASSETS,
                *publishing.ASSETS,
            ),
        ],
        asset_checks=[*checks.CHECKS, *champion.CHECKS, *inbox.CHECKS],
        jobs=[*training.JOBS, *jobs.JOBS, *inbox.JOBS],
        schedules=jobs.SCHEDULES,
        sensors=[*jobs.SENSORS, *inbox.SENSORS],
        resources={"piano": data.PianoData(), **(resources or {})},
        loggers={"console": data.plain_console},
        executor=executors.executor(),
    )
