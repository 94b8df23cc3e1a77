"""Stacks: which trials can train as one program, how many members at once, and going on when memory does not suffice.

The unit is a group (one fold of one trial and seed with its search): its members never part. No torch is imported
here before something trains: the planner asks `stack_key` in processes that never do.
"""

import itertools
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from piano_assets.catalogue.trial import Encoder, Trial, as_dict
from piano_assets.store.parts import digest

if TYPE_CHECKING:
    from piano_assets.training.data import TrialData
    from piano_assets.training.material import Material
    from piano_assets.training.members import Group, Track

SAVE_EVERY_S = 60.0
"""Seconds between saved states: what a killed run loses at most."""

SHARE_OF_MEMORY = 0.7
"""Of the free memory a stack is sized for: fragmentation and the data of a step need the rest."""


def stack_key(trial: Trial) -> str:
    """Equal for trials whose members can train as one program: same shapes, inputs, labels, split and budget.

    They may differ in dropout and stochastic depth, and in everything of optimisation and augmentation that changes
    neither the batch nor the number of steps nor what is read from disk.
    """
    tree = as_dict(trial)
    model = {k: v for k, v in tree["model"].items() if k not in ("dropout", "stochastic_depth")}
    how = trial.optimisation
    bent = trial.augmentation
    reads = (bent.time_stretch, bent.pitch_shift) if bent.rerender else bent.bends_sound
    steps = bent.factor if bent.longer else 1
    rest = {k: tree[k] for k in ("inputs", "split", "label_rule", "budget", "rounds", "shrinkage")}
    return digest(model, rest, how.batch_size if how else None, reads, steps)


def members_that_fit(group: "Group", n_params: int, n_tokens: int, device: str) -> int:
    """How many members of a group's shape fit a CUDA device's free memory."""
    import torch

    free, _ = torch.cuda.mem_get_info(device)
    free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # kept by torch, free for us
    return max(1, int(SHARE_OF_MEMORY * free / bytes_of_member(group, n_params, n_tokens)))


def bytes_of_member(group: "Group", n_params: int, n_tokens: int) -> int:
    """An upper estimate of a training member's memory.

    Seven numbers a parameter (weight, gradient twice while it is gathered, two moments, best state, a copy), and what
    each block keeps of each token for its gradient: norms, q, k, v, attention's output, both residuals, the hidden
    layer before and after its activation, and the masks of dropout.
    """
    model = group.encoder
    inner, hidden = model.heads * model.head_dim, round(model.dim * model.mlp_ratio)
    per_token = model.depth * (8 * model.dim + 5 * inner + 4 * hidden)
    attention = model.depth * model.heads * n_tokens  # kept where a kind cannot use the fused form
    return 4 * (7 * n_params + group.batch_size * n_tokens * (per_token + attention))


def fit_groups(
    groups: Sequence["Group"],
    data: "TrialData",
    *,
    device: str,
    precision: str,
    folder_of: Callable[["Group"], Path],
    on_group: Callable[["Group", Any], None],
    members: int | None = None,
    save_every_s: float = SAVE_EVERY_S,
) -> None:
    """Train groups of one stack key; each is handed over when all its members have ended.

    On CUDA as many members as fit the memory are one stack. On the CPU a group is a stack, and there is one a core.

    Args:
        folder_of: where a group's state is kept while it trains; what an earlier run left there is gone on with.
        on_group: told each group with its `FoldResult`, after which its state is not needed any more.
        members: one stack at a time, on any device, of at most so many members.
    Raises:
        torch.OutOfMemoryError: not even one group fits.
    """
    from piano_assets.training.material import Material

    repeatable(device)
    work = _Work(Material(data, groups[0].trial, device), precision, folder_of, on_group, save_every_s)
    if members is None and not device.startswith("cuda"):
        _fit_side_by_side(groups, work)
    else:
        _fit_stacks(groups, work, members or members_that_fit(groups[0], *_size_of(groups[0], work.material), device))


@dataclass
class _Work:
    """What every stack of a call shares. `stop` says that one of them failed, so that the others leave off too."""

    material: "Material"
    precision: str
    folder_of: Callable[["Group"], Path]
    on_group: Callable[["Group", Any], None]
    save_every_s: float
    stop: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def hand_over(self, group: "Group", result: Any) -> None:
        """Tell about a group that is done, one at a time, and none after a failure."""
        with self.lock:
            self.leave_off()
            self.on_group(group, result)

    def leave_off(self) -> None:
        if self.stop.is_set():
            raise _LeftOffError


class _LeftOffError(Exception):
    """Another group failed; its error is the one to report."""


def _fit_stacks(groups: Sequence["Group"], work: _Work, size: int) -> None:
    """One stack after the other, each of at most `size` members."""
    import torch

    todo = list(groups)
    while todo:
        counts = itertools.accumulate(len(group.points) for group in todo)
        n = max(1, sum(count <= size for count in counts))
        now, todo = todo[:n], todo[n:]
        try:
            _fit_stack(now, work)
        except torch.OutOfMemoryError:
            if len(now) == 1:
                raise
            # Half as many: each group goes on from its last saved state. Those handed over are not in `now` any more.
            todo, size = now + todo, sum(len(group.points) for group in now) // 2


def _fit_side_by_side(groups: Sequence["Group"], work: _Work) -> None:
    """A group on each core, with one thread for its products: no operation waits for a core that is busy elsewhere.

    One thread always, also where fewer groups are left than cores, so that a resumed run adds up in the same order.

    Raises:
        BaseException: the first that a group raised; the others leave off at their next epoch.
    """
    import torch

    cores = torch.get_num_threads()
    need = bytes_of_member(groups[0], *_size_of(groups[0], work.material)) * len(groups[0].points)
    at_once = max(1, min(cores, len(groups), int(SHARE_OF_MEMORY * free_memory() / need)))
    torch.set_num_threads(1)

    def fit_one(group: "Group") -> None:
        try:
            work.leave_off()
            _fit_stack([group], work)
        except BaseException:
            work.stop.set()
            raise

    try:
        with ThreadPoolExecutor(at_once, "group") as pool:
            try:
                errors = [f.exception() for f in [pool.submit(fit_one, group) for group in groups]]
            except BaseException:  # the caller was interrupted
                work.stop.set()
                raise
    finally:
        torch.set_num_threads(cores)
    for error in sorted((e for e in errors if e is not None), key=lambda e: isinstance(e, _LeftOffError)):
        raise error


def free_memory() -> int:
    """Memory in bytes that the system could still give, caches counted as free; as Linux says it, else all pages."""
    meminfo = Path("/proc/meminfo")
    for line in meminfo.read_text().splitlines() if meminfo.is_file() else []:
        if line.startswith("MemAvailable:"):
            return 1024 * int(line.split()[1])
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def repeatable(device: str) -> None:
    """Ask CUDA for kernels that add up in one order, where it has such: same part key, same predictions.

    torch's memory-efficient attention only warns that it has none; what it moves is a last bit of a gradient.
    """
    if device.startswith("cuda"):
        import torch

        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
        if ":" in device:
            torch.cuda.set_device(device)  # what is asked of `cuda` without a number, as its name, is this one's


def _fit_stack(groups: list["Group"], work: _Work) -> None:
    """Train some groups as one stack; a group that is done is taken out of `groups`."""
    from piano_assets.training import resume
    from piano_assets.training.folds import fold_result
    from piano_assets.training.loop import fit

    if groups[0].trial.rounds:
        _boost(groups, work)
        return
    tracks: list[Track] = []
    saved: dict[int, Any] = {}
    for group in groups:
        mine, states = resume.load_state(work.folder_of(group), group, work.material.device)
        saved |= {len(tracks) + i: state for i, state in states.items()}
        tracks += mine
    started = last = time.perf_counter()
    share = 1 / len(groups)

    def hand_over() -> None:
        for group in list(groups):
            mine = [t for t in tracks if t.group is group]
            if all(t.status for t in mine):
                result = fold_result(mine, work.material, work.precision)
                work.hand_over(group, replace(result, seconds=(time.perf_counter() - started) * share))
                groups.remove(group)

    def on_epoch(active: Sequence["Track"], states: Callable[[], list[dict[str, Any]]]) -> None:
        nonlocal last
        work.leave_off()
        hand_over()
        if time.perf_counter() - last >= work.save_every_s:
            now = {id(t): state for t, state in zip(active, states(), strict=True)}
            for group in groups:
                resume.save_state(work.folder_of(group), [t for t in tracks if t.group is group], now)
            last = time.perf_counter()

    fit(tracks, work.material, precision=work.precision, saved=saved, on_epoch=on_epoch)
    hand_over()


def _boost(groups: list["Group"], work: _Work) -> None:
    """Fit the rounds of each group one after the other; a group that is done is taken out of `groups`."""
    from piano_assets.training.boosting import boosted
    from piano_assets.training.material import Material

    for group in list(groups):

        def fit_round(number: int, stage: "Group", data: "TrialData", whole: "Group" = group) -> Any:
            folder, found = work.folder_of(whole), list[Any]()
            of_round = replace(
                work,
                material=Material(data, stage.trial, work.material.device),
                folder_of=lambda _: folder.with_name(f"{folder.name}.round{number}"),
                on_group=lambda _, left: found.append(left),
                lock=threading.Lock(),
            )
            _fit_stack([stage], of_round)
            return found[0]

        started = time.perf_counter()
        result = boosted(group, work.material.data, fit_round)
        work.hand_over(group, replace(result, seconds=time.perf_counter() - started))
        groups.remove(group)


def _size_of(group: "Group", material: "Material") -> tuple[int, int]:
    """(parameters of a member, tokens of a crop)."""
    from piano_assets.models.network import n_params
    from piano_assets.training.loop import shape_of

    shape, encoder = shape_of(group, material), group.encoder
    assert isinstance(encoder, Encoder)
    p = 1 if shape.events else encoder.patch_size
    tokens = -(-shape.crop // p) * (1 if shape.events else -(-shape.width // p))
    return n_params(encoder, shape), max(1, tokens)
