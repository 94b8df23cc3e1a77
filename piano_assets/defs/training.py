"""Assets of the training: checkpoints, history and predictions, partitioned by configuration and seed.

Dagster would cut a selection of partitions along its smaller dimension, so the mechanism is the batch job: one run
with its partitions in the run config. A selection in the UI works all the same. Either way each finished partition is
logged at once, by hand, so that a run that dies leaves a true log behind.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg

from piano_assets.defs.data import OWNERS, PianoData, describe, plain_console, progress
from piano_assets.defs.executors import batch_cpus, ray_tags
from piano_assets.defs.features import TABULAR, feature_variants_of, make_feature_variant, make_sequence, sequences_of
from piano_assets.defs.planner import SEEDS, Task, missing, tasks_of
from piano_assets.store.parts import Part, Store
from piano_assets.training.data import device_class

GROUP = "training"
CONFIGS = dg.DynamicPartitionsDefinition(name="config")
PARTITIONS = dg.MultiPartitionsDefinition(
    {"config": CONFIGS, "seed": dg.StaticPartitionsDefinition([str(s) for s in SEEDS])}
)
ASSET_NAMES = ("checkpoints", "history", "predictions")
FAILED = "failed_partitions"
"""Metadata of a failed batch: partition -> reason."""
DEPS = ["labels", "splits", *TABULAR, "spectrograms"]
DESCRIPTIONS = {
    "checkpoints": "The fitted models of one trial and seed, in safe formats with their records (seed 0 is kept).",
    "history": "Learning curves of one trial and seed, epoch by epoch.",
    "predictions": "Out-of-fold predictions of one trial and seed: the truth that every score is computed from.\n\n"
    "To train one, Materialize: choose a config, as `family.ridge` (Catalog > `arms` and `piano comparisons` say what "
    "each is; `@reduced` and `@smoke` train networks shorter), and a seed. What stands is not trained again. Then run "
    "the job `results`, or switch on the sensor `results_follow_predictions`, to see it on the leaderboard.",
}


def train(
    context: Any, piano: PianoData, partitions: Iterable[str], log: Callable[[dg.AssetMaterialization], None]
) -> None:
    """Train what is missing and log each partition as it stands; go on after a failure, and name the failed at the end.

    Spectrograms, note events and renderings that the trials read and the corpus lacks are made first. Networks are
    trained on a CUDA device that no other training holds, where there is one.

    Raises:
        dagster.Failure: some partitions failed.
    """
    import torch

    from piano_assets.training.devices import held
    from piano_assets.training.provenance import precision_that_gains
    from piano_assets.training.run import RunResult, run_batch

    store = piano.store()
    tasks = tasks_of(partitions, store)
    todo = missing(store, tasks)
    for name in sequences_of(task.trial for task in todo):
        make_sequence(store, name, piano.renderings, lambda what: progress(context, what))
    for variant in feature_variants_of(task.trial for task in todo):
        make_feature_variant(store, variant, lambda what: progress(context, what))
    of = {(t.config, t.seed): t for t in tasks}
    cuda = torch.cuda.is_available() and any(t.trial.optimisation is not None for t in todo)
    cpus = batch_cpus()
    if cpus is not None:
        torch.set_num_threads(cpus)
    stood: list[str] = []
    failed: dict[str, str] = {}

    def done(result: RunResult) -> None:
        task = of[result.config, result.seed]
        stood.append(task.partition)
        how = "stood already" if result.reused else f"trained in {result.seconds:.1f} s"
        context.log.info(f"{len(stood)} of {len(tasks)}: {task.partition} {how}")
        run = store.part("runs", result.part_name, key=result.part_key)
        for event in materializations(store, task, run) if run else []:
            log(event)

    def fail(partition: str, error: Exception) -> None:
        failed[partition] = f"{type(error).__name__}: {error}"
        context.log.error(f"{partition}: {failed[partition]}")

    with held("cuda" if cuda else "cpu", context.log.info) as device:
        run_batch(
            [(t.config, t.trial, t.seed) for t in tasks],
            store,
            device,
            done,
            precision_that_gains(device),
            cpus,
            on_fold=lambda partition, n, folds: context.log.info(f"{partition}: {n} of {folds} folds"),
            on_failure=fail,
            on_wait=lambda partition: context.log.info(f"{partition}: another process trains it; waiting"),
        )
    if failed:
        said = "; ".join(f"{partition}: {reason}" for partition, reason in failed.items())
        raise dg.Failure(
            f"{len(failed)} of {len(tasks)} partitions failed: {said}",
            metadata={FAILED: dg.MetadataValue.json(failed)},
            allow_retries=False,  # it would fail again; a step is tried again when its process or its node dies
        )


def materializations(store: Store, task: Task, run: Part) -> list[dg.AssetMaterialization]:
    """The three events that mirror one finished partition."""
    events = []
    for name in ASSET_NAMES:
        part = run if name == "checkpoints" else store.part(name, run.name, key=run.key)
        metadata: dict[str, Any] = {"part_key": run.key, "split": task.trial.split, "label_rule": task.trial.label_rule}
        if name == "checkpoints":
            metadata["path"] = dg.MetadataValue.path(str(store.root / "checkpoints" / run.name))
        elif part is not None:
            metadata |= {"dagster/partition_row_count": part.n_rows, "path": dg.MetadataValue.path(str(part.path))}
        tags = {"dagster/data_version": part.content_hash if part else run.key, "dagster/code_version": run.key}
        events.append(dg.AssetMaterialization(name, partition=task.partition, metadata=metadata, tags=tags))
    return events


def _spec(name: str) -> dg.AssetSpec:
    return dg.AssetSpec(
        name,
        deps=DEPS,
        group_name=GROUP,
        description=DESCRIPTIONS[name],
        metadata=describe(name) if name != "checkpoints" else {},
        kinds={"torch", "scikitlearn"},
        owners=OWNERS,
        # Outputs are optional because the events are logged by hand, one partition at a time.
        skippable=True,
    )


@dg.multi_asset(
    specs=[_spec(name) for name in ASSET_NAMES],
    partitions_def=PARTITIONS,
    backfill_policy=dg.BackfillPolicy.single_run(),
    can_subset=True,
    pool="gpu",
    op_tags=ray_tags(networks=True),
    name="trials",
)
def trials(context: dg.AssetExecutionContext, piano: PianoData):
    """Train the selected configurations and seeds."""
    train(context, piano, [str(k) for k in context.partition_keys], context.log_event)
    yield from ()


class Batch(dg.Config):
    """Partition keys, `<config>|<seed>`, of one batch."""

    partitions: list[str]


AGAIN = dg.RetryPolicy(max_retries=3, delay=1)
"""Should the process or the node of a step die, another goes on with what is missing."""


@dg.op(pool="gpu", tags={"kind": "training", **ray_tags(networks=True)}, retry_policy=AGAIN)
def train_batch(context: dg.OpExecutionContext, piano: PianoData, config: Batch) -> None:
    """Train one batch of partitions; those whose parts stand are reused in milliseconds."""
    train(context, piano, config.partitions, context.log_event)


@dg.job(
    description="Train one batch of partitions. `piano sweep` and the nightly schedule plan the batches.",
    logger_defs={"console": plain_console},
)
def sweep() -> None:
    train_batch()


class Batches(dg.Config):
    """Batches of partition keys."""

    batches: list[list[str]]


@dg.op(
    out={
        "tabular": dg.DynamicOut(dg.Nothing, is_required=False),
        "networks": dg.DynamicOut(dg.Nothing, is_required=False),
    }
)
def plan_batches(piano: PianoData, config: Batches) -> Iterator[dg.DynamicOutput]:
    """Make a step of each batch; those with networks ask for a GPU where there is one."""
    for number, batch in enumerate(config.batches):
        networks = any(t.trial.optimisation is not None for t in tasks_of(batch, piano.store()))
        yield dg.DynamicOutput(None, str(number), "networks" if networks else "tabular")


@dg.op(
    ins={"planned": dg.In(dg.Nothing)},
    pool="gpu",
    tags={"kind": "training"},
    retry_policy=AGAIN,
)
def train_planned(context: dg.OpExecutionContext, piano: PianoData) -> None:
    """Train one of the batches."""
    # Which one is read from the run, not from an output: nodes share the data folder, not Dagster's own files.
    ops: Any = context.run.run_config["ops"]
    batch = ops["plan_batches"]["config"]["batches"][int(context.get_mapping_key() or 0)]
    train(context, piano, batch, context.log_event)


_TABULAR = train_planned.tag(ray_tags(networks=False)).alias("train_tabular")
_NETWORKS = train_planned.tag(ray_tags(networks=True)).alias("train_networks")


@dg.job(
    description="Train batches of partitions side by side, where the executor can (PIANO_EXECUTOR).",
    logger_defs={"console": plain_console},
)
def sweep_batches() -> None:
    planned = plan_batches()
    planned.tabular.map(_TABULAR)
    planned.networks.map(_NETWORKS)


def batches_config(batches: Iterable[Iterable[Task]], piano: PianoData) -> dict[str, Any]:
    """Run config of batches side by side; their processes find the data wherever they start."""
    where = {"root": str(Path(piano.root).resolve()), "corpus": piano.corpus, "renderings": piano.renderings}
    return {
        "ops": {"plan_batches": {"config": {"batches": [[t.partition for t in batch] for batch in batches]}}},
        "resources": {"piano": {"config": where}},
    }


def batch_config(tasks: Iterable[Task]) -> dict[str, Any]:
    """Run config of one batch."""
    return {"ops": {"train_batch": {"config": {"partitions": [t.partition for t in tasks]}}}}


def batch_tags(tasks: Iterable[Task], device: str, number: int) -> dict[str, str]:
    """Tags of a batch's run: number, comparisons (as config names begin), budgets and device class."""
    tasks = list(tasks)
    return {
        "piano/batch": str(number),
        "piano/comparisons": " ".join(sorted({t.config.partition(".")[0] for t in tasks})),
        "piano/budget": " ".join(sorted({t.trial.budget for t in tasks})),
        "piano/device": " ".join(sorted({device_class(t.trial, device) for t in tasks})),
    }


ASSETS = [trials]
JOBS: list = [sweep, sweep_batches]
