"""Which CUDA device a training takes: each device has a lock file (or as many as may share it), held while it trains.

The operating system lets go of the lock of a process that is killed, so a device is never lost. Locks lie in a folder
of the machine, as devices are the machine's, and carry the device's UUID: `cuda:0` is another device in a process that
sees others (`CUDA_VISIBLE_DEVICES`).
"""

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

FOLDER = Path(tempfile.gettempdir()) / "piano_assets_devices"
"""For all users of the machine."""
POLL_S = 1.0
SHARE = "PIANO_GPU_SHARE"


def gpu_share() -> float:
    """What a training takes of a device: `PIANO_GPU_SHARE`, else all of it. Half of it: two trainings share a device.

    Raises:
        ValueError: not a number in (0, 1].
    """
    given = os.environ.get(SHARE) or "1"
    try:
        share = float(given)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise ValueError(f"{SHARE}={given!r} must be a number in (0, 1]")
    return share


def visible_devices() -> list[str]:
    """UUIDs of the CUDA devices that this process sees, `cuda:0` first."""
    import torch

    return [str(torch.cuda.get_device_properties(i).uuid) for i in range(torch.cuda.device_count())]


@contextmanager
def held(
    asked: str,
    say: Callable[[str], None],
    devices: Callable[[], Sequence[str]] = visible_devices,
    folder: Path = FOLDER,
    poll_s: float = POLL_S,
) -> Iterator[str]:
    """Hold a device: `cuda` is whichever is free first, `cuda:<n>` that one, `cpu` needs no lock. Yields its name.

    Args:
        say: told once if no device is free, before waiting.
        devices: the UUIDs of those that there are.
    Raises:
        ValueError: a device that is not there.
    """
    kind, colon, number = asked.partition(":")
    if kind != "cuda":
        yield asked
        return
    uuids = devices()
    names = {f"cuda:{i}": uuid for i, uuid in enumerate(uuids) if not colon or str(i) == number}
    if not names:
        raise ValueError(f"device {asked!r} is not there: this process sees {len(uuids)} CUDA devices")
    if not folder.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o1777)  # as /tmp: everybody's, and nobody removes another's
    places = range(int(1 / gpu_share() + 1e-9))
    # First places first: trainings spread over the devices before they share one.
    locks = [(name, FileLock(folder / f"{uuid}.{i}", mode=0o666)) for i in places for name, uuid in names.items()]
    taken = _first_free(locks)
    if taken is None:
        say(f"{', '.join(names)} taken by other trainings: waiting for one of them")
    while taken is None:
        time.sleep(poll_s)
        taken = _first_free(locks)
    name, lock = taken
    try:
        yield name
    finally:
        lock.release()


def _first_free(locks: Sequence[tuple[str, FileLock]]) -> tuple[str, FileLock] | None:
    """The first whose lock can be had, now held; None where none can."""
    for name, lock in locks:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue
        return name, lock
    return None
