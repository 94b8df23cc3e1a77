"""Jobs, the nightly schedule and the sensor that registers configs."""

import dagster as dg

from piano_assets.defs import planner
from piano_assets.defs.data import PianoData
from piano_assets.defs.halving import going_on
from piano_assets.defs.training import CONFIGS, batch_config, sweep

corpus_job = dg.define_asset_job(
    "corpus",
    selection=dg.AssetSelection.groups("corpus"),
    description="Read the corpus, make labels and splits, render the sound.",
)

features_job = dg.define_asset_job(
    "features",
    selection=dg.AssetSelection.assets("symbolic_features", "audio_features"),
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


@dg.schedule(
    cron_schedule="0 2 * * *",
    job=sweep,
    description="Every night: train what is missing or stale, one run per batch; nothing when nothing is.",
)
def nightly_sweep(context: dg.ScheduleEvaluationContext, piano: PianoData):
    """Request one run per batch of missing partitions."""
    store = piano.store()
    owed = planner.owed(store, planner.swept_configs(store))
    todo = planner.missing(store, going_on(store, owed, planner.known(store)))
    if not todo:
        return dg.SkipReason("every partition that is swept unasked stands")
    context.instance.add_dynamic_partitions(str(CONFIGS.name), sorted({t.config for t in todo}))
    night = context.scheduled_execution_time.date().isoformat()
    return [
        dg.RunRequest(run_key=f"{night}-{number}", run_config=batch_config(batch), tags={"piano/batch": str(number)})
        for number, batch in enumerate(planner.plan(todo))
    ]


@dg.sensor(minimum_interval_seconds=60, default_status=dg.DefaultSensorStatus.RUNNING, job=sweep)
def register_configs(context: dg.SensorEvaluationContext, piano: PianoData):
    """Make every config a partition, users' too, so that each can be materialized by a click."""
    store = piano.store()
    for problem in planner.problems(store):
        context.log.warning(f"left out: {problem}")
    known = set(context.instance.get_dynamic_partitions(str(CONFIGS.name)))
    unknown = sorted(set(planner.configs(store)) - known)
    if not unknown:
        return dg.SkipReason("every config is registered")
    return dg.SensorResult(dynamic_partitions_requests=[CONFIGS.build_add_request(unknown)])


JOBS: list = [corpus_job, features_job, results_job, quickstart]
SCHEDULES = [nightly_sweep]
SENSORS = [
    register_configs,
    dg.AutomationConditionSensorDefinition(
        "results_follow_predictions",
        target=dg.AssetSelection.groups("results"),
        description="Switch on to refresh scores and leaderboard whenever predictions arrive.",
    ),
]
