"""Stacks: which trials can train as one program, how many members at once, and going on when memory does not suffice.

The unit is a group (one fold of one trial and seed with its search): its members never part. No torch is imported
here before something trains: the planner asks `stack_key` in processes that never do.
"""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
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
    rest = {k: tree[k] for k in ("inputs", "split", "label_rule", "budget")}
    return digest(model, rest, how.batch_size if how else None, reads, steps)


def members_that_fit(group: "Group", n_params: int, n_tokens: int, device: str) -> int:
    """How many members of a group's shape fit the device's free memory.

    On the CPU a group at a time: a second one shares the same cores and pushes the first out of their caches.
    """
    if not device.startswith("cuda"):
        return len(group.points)
    import torch

    free, _ = torch.cuda.mem_get_info(device)
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
    """Train groups of one stack key, as many at once as fit; each is handed over when all its members have ended.

    Args:
        folder_of: where a group's state is kept while it trains; what an earlier run left there is gone on with.
        on_group: told each group with its `FoldResult`, after which its state is not needed any more.
        members: at most so many at once, instead of what fits the memory.
    Raises:
        torch.OutOfMemoryError: not even one group fits.
    """
    import torch

    from piano_assets.training.material import Material

    _repeatable(device)
    material = Material(data, groups, device)
    todo = list(groups)
    size = members or members_that_fit(todo[0], *_size_of(todo[0], material), device)
    while todo:
        n = max(1, size // len(todo[0].points))
        now, todo = todo[:n], todo[n:]
        try:
            _fit_stack(now, material, precision, folder_of, on_group, save_every_s)
        except torch.OutOfMemoryError:
            if len(now) == 1:
                raise
            # Half as many: each group goes on from its last saved state. Those handed over are not in `now` any more.
            todo, size = now + todo, max(1, (len(now) // 2) * len(now[0].points))


def _repeatable(device: str) -> None:
    """Ask CUDA for kernels that add up in one order: same part key, same predictions. Processors do so anyway."""
    if device.startswith("cuda"):
        import torch

        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)


def _fit_stack(
    groups: list["Group"],
    material: "Material",
    precision: str,
    folder_of: Callable[["Group"], Path],
    on_group: Callable[["Group", Any], None],
    save_every_s: float,
) -> None:
    """Train some groups as one stack; a group that is done is taken out of `groups`."""

    from piano_assets.training import resume
    from piano_assets.training.folds import fold_result
    from piano_assets.training.loop import fit

    tracks: list[Track] = []
    saved: dict[int, Any] = {}
    for group in groups:
        mine, states = resume.load_state(folder_of(group), group, material.device)
        saved |= {len(tracks) + i: state for i, state in states.items()}
        tracks += mine
    started = last = time.perf_counter()
    share = 1 / len(groups)

    def hand_over() -> None:
        for group in list(groups):
            mine = [t for t in tracks if t.group is group]
            if all(t.status for t in mine):
                result = fold_result(mine, material, precision)
                on_group(group, replace(result, seconds=(time.perf_counter() - started) * share))
                groups.remove(group)

    def on_epoch(active: Sequence["Track"], states: Callable[[], list[dict[str, Any]]]) -> None:
        nonlocal last
        hand_over()
        if time.perf_counter() - last >= save_every_s:
            now = {id(t): state for t, state in zip(active, states(), strict=True)}
            for group in groups:
                resume.save_state(folder_of(group), [t for t in tracks if t.group is group], now)
            last = time.perf_counter()

    fit(tracks, material, precision=precision, saved=saved, on_epoch=on_epoch)
    hand_over()


def _size_of(group: "Group", material: "Material") -> tuple[int, int]:
    """(parameters of a member, tokens of a crop)."""
    from piano_assets.models.network import n_params
    from piano_assets.training.loop import shape_of

    shape, encoder = shape_of(group, material), group.encoder
    assert isinstance(encoder, Encoder)
    p = 1 if shape.events else encoder.patch_size
    tokens = -(-shape.crop // p) * (1 if shape.events else -(-shape.width // p))
    return n_params(encoder, shape), max(1, tokens)
