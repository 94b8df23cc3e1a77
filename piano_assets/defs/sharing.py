"""What machines exchange through a bucket: finished partitions that one has and another lacks."""

from collections.abc import Iterable, Iterator

from piano_assets.defs import planner
from piano_assets.defs.current import TRIAL_TABLES
from piano_assets.defs.planner import Task
from piano_assets.store.bucket import Bucket
from piano_assets.store.parts import Store
from piano_assets.training import data


def exchange(store: Store, url: str, names: Iterable[str] = ()) -> tuple[list[str], list[str]]:
    """(partitions taken from the bucket, partitions given to it), in whatever ways they were trained.

    names: comparisons or configs; none: everything that the catalogue has. Shipped results are not given: the others
    have them too.

    Raises:
        ValueError: a name that nothing has, or a URL that fsspec does not know.
        ImportError: the URL's file system is not installed.
        BucketError: the bucket holds a damaged object; its run is not taken.
    """
    names = list(names)
    catalogue = planner.known(store)
    configs = [c for chosen in planner.chosen_configs(catalogue, names) for c in chosen] if names else None
    tasks = [t for t in planner.owed(store, configs, catalogue=catalogue) if not data.lacks(t.trial, store)]
    bucket, own = Bucket(url, store.corpus, TRIAL_TABLES), Store(store.root)
    there = bucket.runs()
    names_there = {name for name, _ in there}
    taken, given = [], []
    for task in tasks:
        for name, key in _runs(own, task, names_there):
            run = own.part("runs", name, key=key)
            if run is not None and (name, key) not in there:
                bucket.put(own, run)
                given.append(task.partition)
            elif run is None and (name, key) in there:
                bucket.get(own, name, key)
                taken.append(task.partition)
    return taken, given


def _runs(store: Store, task: Task, names: set[str]) -> Iterator[tuple[str, str]]:
    """(name, part key) of a task's run in each way in which it may have been trained, here or under `names` there."""
    for name, way in data.ways(task.trial, task.config, task.seed).items():
        # Part keys take reading many footers: only where there is a file at all.
        if name in names or store.part("runs", name) is not None:
            yield name, data.part_key(task.trial, task.seed, store, *way)
