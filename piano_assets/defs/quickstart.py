"""The quick start: corpus, sound, features, models, results, in this order, each stage a run of its own.

Each stage is an ordinary Dagster run of the instance, so the UI shows what happened. The order cannot be one asset job:
partitions that log themselves one by one produce no outputs for a downstream step of the same run.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import dagster as dg

from piano_assets.defs import current, executors, planner
from piano_assets.defs.data import PianoData
from piano_assets.defs.features import SEQUENCES, TABULAR, make_sequence, sequences_of
from piano_assets.defs.training import CONFIGS, batch_config, batches_config, sweep, sweep_batches
from piano_assets.ensembles.recipes import RECIPES

CORPUS = ["percepiano_source", "clips", "notes", "controls", "clusters", "ratings", "labels", "noise_ceiling"]
TABLES = ["trials", "comparisons", "arms", "published", "lookups"]
RESULTS = ["subjects", "scores", "calibration", "tests", "leaderboard", "adaptation_curves", "report", "warehouse"]
PLAIN_LOG: dict = {"loggers": {"console": {}}}


class StageFailed(RuntimeError):
    """A stage of the quick start that did not succeed."""


@dataclass(frozen=True)
class Stage:
    """One finished stage and its wall time."""

    name: str
    seconds: float


def stages(
    instance: dg.DagsterInstance,
    piano: PianoData,
    tasks: Callable[[], list[planner.Task]],
    say: Callable[[str], None],
    only: str | None = None,
) -> Iterator[Stage]:
    """Run the stages one after the other (or one of them alone); yields each as it is done.

    `tasks` says what is owed; it is asked before the features are computed, and until nothing of it is missing.

    Raises:
        StageFailed: a stage failed; what it published stays, and the next call goes on from there.
    """
    materialize = materializer(instance, piano)

    def train() -> None:
        before: list[planner.Task] = []
        # What is owed may depend on what came of it so far: a sweep that halves asks again after its first rung.
        while todo := planner.missing(piano.store(), tasks()):
            if todo == before:
                raise StageFailed(f"trained, and still missing: {', '.join(t.partition for t in todo)}")
            train_all(todo)
            before = todo

    def train_all(todo: list[planner.Task]) -> None:
        instance.add_dynamic_partitions(str(CONFIGS.name), sorted({t.config for t in todo}))
        batches = planner.plan(todo)
        if executors.chosen() != "in_process":
            say(f"{len(batches)} batches, {len(todo)} partitions, by the executor {executors.chosen()}")
            _require(train_side_by_side(instance, piano, batches), f"{len(batches)} batches")
            return
        for number, batch in enumerate(batches, 1):
            say(f"batch {number} of {len(batches)}: {', '.join(t.partition for t in batch)}")
            done = sweep.execute_in_process(
                instance=instance,
                resources={"piano": piano},
                run_config=batch_config(batch) | PLAIN_LOG,
                raise_on_error=False,
            )
            _require(done, f"batch {number}")

    def results() -> None:
        materialize(TABLES)
        store = piano.store()
        waiting = []
        for name, recipe in RECIPES.items():
            if all(current.current_parts(store, planner.owed(store, [m]))["runs"] for m in recipe.members):
                materialize(["ensembles", "ensemble_weights"], name)
            else:
                waiting.append(name)
        if waiting:
            say(f"ensembles that wait for members (piano sweep ensemble): {', '.join(waiting)}")
        materialize(RESULTS)

    def features() -> None:
        materialize(list(TABULAR))
        for name in sequences_of([*(t.trial for t in tasks()), *current.shipped_trials(piano.store())]):
            if name in SEQUENCES:
                materialize(["spectrograms"], name)
            else:  # of a user's own amounts, which no static partition can foresee
                say(f"clips of {name}")
                make_sequence(piano.store(), name, piano.renderings, lambda what: lambda done, total: None)

    for name, run in (
        ("corpus", lambda: materialize([*CORPUS, "splits", "leaks"])),
        ("sound", lambda: materialize(["audio"])),
        ("features", features),
        ("models", train),
        ("results", results),
    ):
        if only not in (None, name):
            continue
        say(f"stage {name}")
        started = time.perf_counter()
        run()
        yield Stage(name, time.perf_counter() - started)


def side_by_side() -> dg.JobDefinition:
    """The job `sweep_batches`, as another process finds it."""
    from piano_assets.defs.build import build_defs

    return build_defs().resolve_job_def(sweep_batches.name)


def train_side_by_side(
    instance: dg.DagsterInstance, piano: PianoData, batches: list[list[planner.Task]]
) -> dg.JobExecutionResult:
    """Train batches as steps of one run, which the executor of `PIANO_EXECUTOR` carries out.

    The instance must be one that other processes can open, no ephemeral one.
    """
    config = batches_config(batches, piano) | PLAIN_LOG
    return dg.execute_job(dg.reconstructable(side_by_side), instance, run_config=config)


def materializer(instance: dg.DagsterInstance, piano: PianoData) -> Callable[..., None]:
    """A function `(asset names, partition key, run config)` that materializes assets in this process, as one run.

    It raises StageFailed with the reasons where a step or a blocking check fails.
    """
    from piano_assets.defs.build import build_defs

    job = build_defs({"piano": piano}).resolve_implicit_global_asset_job_def()

    def materialize(names: list[str], partition: str | None = None, config: dict | None = None) -> None:
        done = job.execute_in_process(
            instance=instance,
            asset_selection=[dg.AssetKey(n) for n in names],
            partition_key=partition,
            run_config=PLAIN_LOG | (config or {}),
            raise_on_error=False,
        )
        _require(done, ", ".join(names) + (f" of {partition}" if partition else ""))

    return materialize


def _require(done: dg.ExecuteInProcessResult | dg.JobExecutionResult, what: str) -> None:
    """Say which steps failed and why, innermost cause first in line."""
    if done.success:
        return
    reasons = []
    for event in done.all_events:
        if event.is_step_failure:
            error = event.step_failure_data.error
            while error is not None and error.cause is not None:
                error = error.cause
            reasons.append(f"{event.step_key}: {error.message.strip() if error else 'no reason given'}")
        elif event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            check = event.asset_check_evaluation_data
            if not check.passed and check.blocking:
                reasons.append(f"check {check.check_name}: {dict(check.metadata)}")
    raise StageFailed(f"{what}: {'; '.join(reasons)} (run {done.run_id})")
