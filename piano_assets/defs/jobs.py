"""Jobs, the nightly schedule, and the sensors that register configs and write down what failed."""

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime

import dagster as dg

from piano_assets.defs import planner
from piano_assets.defs.data import PianoData
from piano_assets.defs.features import TABULAR
from piano_assets.defs.halving import going_on
from piano_assets.defs.heartbeat import fail, in_progress
from piano_assets.defs.night import night, seconds_of
from piano_assets.defs.planner import Task
from piano_assets.defs.status import failure_digest, running, trained_before
from piano_assets.defs.training import CONFIGS, batch_config, batch_tags, sweep
from piano_assets.store.parts import digest, write_file
from piano_assets.training.data import lacks, part_key

corpus_job = dg.define_asset_job(
    "corpus",
    selection=dg.AssetSelection.groups("corpus"),
    description="Read the corpus, make labels and splits, render the sound.",
)

features_job = dg.define_asset_job(
    "features",
    selection=dg.AssetSelection.assets(*TABULAR),
    description="Compute every feature of every clip.",
)

results_job = dg.define_asset_job(
    "results",
    selection=dg.AssetSelection.groups("results") | dg.AssetSelection.assets("lookups"),
    description="Scores, tests, leaderboard, report and warehouse from the predictions that stand.",
)


@dg.op
def run_quickstart(context: dg.OpExecutionContext, piano: PianoData) -> None:
    """Run the stages of the quick start, each as a run of its own."""
    from piano_assets.defs.quickstart import stages

    store = piano.store()
    for stage in stages(context.instance, piano, lambda: planner.quickstart(store), context.log.info):
        context.log.info(f"stage {stage.name}: {stage.seconds:.0f} s")


@dg.job(description="Everything that `make run` does: corpus, sound, features, models, results.")
def quickstart() -> None:
    run_quickstart()


NIGHT_BUDGET = "8h"


@dg.schedule(
    cron_schedule=os.environ.get("PIANO_NIGHT_CRON", "0 2 * * *"),
    execution_timezone=os.environ.get("PIANO_TIME_ZONE", "UTC"),
    job=sweep,
    description="Every night: train what is missing or stale, the most informative first, within PIANO_NIGHT_BUDGET "
    f"({NIGHT_BUDGET}) of device time, one run per batch; nothing when nothing is. PIANO_NIGHT_CRON and "
    "PIANO_TIME_ZONE say when.",
)
def nightly_sweep(context: dg.ScheduleEvaluationContext, piano: PianoData):
    """Request one run per batch of missing partitions that no run holds."""
    store = piano.store()
    owed = planner.owed(store, planner.swept_configs(store))
    todo = planner.missing(store, going_on(store, owed, planner.known(store)))
    if not todo:
        return dg.SkipReason("every partition that is swept unasked stands")
    busy = running(store, context.instance)
    free = [t for t in todo if t.partition not in busy]
    if not free:
        return dg.SkipReason(f"all {len(todo)} missing partitions are queued or in progress")
    device = planner.device()
    budget_s = seconds_of(os.environ.get("PIANO_NIGHT_BUDGET", NIGHT_BUDGET))
    tonight = night(store, free, budget_s, device)
    if not tonight.chosen:
        cheapest = min(tonight.seconds.values())
        return dg.SkipReason(
            f"none of {len(free)} missing partitions fits {budget_s:.0f} s; one takes {cheapest:.0f} s"
        )
    context.log.info(
        f"{len(tonight.chosen)} partitions, about {tonight.expected_s:.0f} s; {len(tonight.left)} are left"
    )
    date = context.scheduled_execution_time.date().isoformat()
    return _requests(context.instance, planner.plan(tonight.chosen), device, lambda n, batch: f"{date}-{n}")


def _requests(
    instance: dg.DagsterInstance,
    batches: list[list[Task]],
    device: str,
    key: Callable[[int, list[Task]], str],
) -> list[dg.RunRequest]:
    """One run a batch. A sensor's run key is run once; a schedule's once in each of its ticks."""
    instance.add_dynamic_partitions(str(CONFIGS.name), sorted({t.config for batch in batches for t in batch}))
    return [
        dg.RunRequest(run_key=key(n, batch), run_config=batch_config(batch), tags=batch_tags(batch, device, n))
        for n, batch in enumerate(batches)
    ]


@dg.sensor(
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
    job=sweep,
    description="Make every config a partition, users' too, so that each can be materialized by a click.",
)
def register_configs(context: dg.SensorEvaluationContext, piano: PianoData):
    """Request the partitions that are not there yet, and log what is wrong with users' files."""
    store = piano.store()
    for problem in planner.problems(store):
        context.log.warning(f"left out: {problem}")
    known = set(context.instance.get_dynamic_partitions(str(CONFIGS.name)))
    unknown = sorted(set(planner.configs(store)) - known)
    if not unknown:
        return dg.SkipReason("every config is registered")
    return dg.SensorResult(dynamic_partitions_requests=[CONFIGS.build_add_request(unknown)])


@dg.sensor(
    minimum_interval_seconds=60,
    job=sweep,
    description="Switch on to train what users' comparisons need as soon as their file is there, and what a changed "
    "corpus or code has made stale; each once in each state of trial, data and code.",
)
def sweep_changes(context: dg.SensorEvaluationContext, piano: PianoData):
    """Request what users' comparisons lack and what stood and stands no longer, of all that is swept unasked."""
    store = piano.store()
    swept = set(planner.swept_configs(store))
    asked = swept & set(planner.users_configs(store))
    lacking = planner.missing(store, planner.owed(store, sorted(swept)))
    todo = [t for t in lacking if t.config in asked or trained_before(store, t)]
    busy = running(store, context.instance)
    free = [t for t in going_on(store, todo, planner.known(store)) if t.partition not in busy]
    if not free:
        return dg.SkipReason("nothing that users ask for is missing, and nothing is stale")

    def key(_: int, batch: list[Task]) -> str:
        # What failed in this state would fail again: the night tries it once more, this sensor does not.
        return digest(
            [(t.partition, t.trial.key, lacks(t.trial, store) or part_key(t.trial, t.seed, store)) for t in batch]
        )

    return _requests(context.instance, planner.plan(free), planner.device(), key)


@dg.sensor(
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Fail runs whose process died with its code server or its machine, so that they block nothing.",
)
def fail_orphans(context: dg.SensorEvaluationContext, piano: PianoData):
    """Fail a run that had no sign of life at two looks on end: after a machine slept, all look dead once."""
    store = piano.store()
    before: dict[str, float] = json.loads(context.cursor or "{}")
    _, orphans = in_progress(store, context.instance)
    for run_id, sign in orphans.items():
        if before.get(run_id) == sign:
            context.log.warning(f"run {run_id}: {fail(store, context.instance, run_id, sign)}")
    context.update_cursor(json.dumps(orphans))
    return dg.SkipReason(f"{len(orphans)} runs without a sign of life")


@dg.run_failure_sensor(default_status=dg.DefaultSensorStatus.RUNNING)
def digest_of_failures(context: dg.RunFailureSensorContext, piano: PianoData) -> None:
    """Write what failed and why to `data/<corpus>/failures/<date>-<run>.md`."""
    run = context.dagster_run
    text = failure_digest(context.instance, run, context.failure_event.message or "no message")
    path = piano.store().root / "failures" / f"{datetime.now(UTC):%Y-%m-%d}-{run.run_id[:8]}.md"
    context.log.info(f"written: {write_file(path, text.encode())}")


JOBS: list = [corpus_job, features_job, results_job, quickstart]
SCHEDULES = [nightly_sweep]
SENSORS = [
    register_configs,
    sweep_changes,
    fail_orphans,
    digest_of_failures,
    dg.AutomationConditionSensorDefinition(
        "results_follow_predictions",
        target=dg.AssetSelection.groups("results"),
        description="Switch on to refresh scores and leaderboard whenever predictions arrive.",
    ),
]
