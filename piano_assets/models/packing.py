"""All parameters of a stack in one buffer, and whole members as rows of numbers.

One buffer makes an optimiser step a handful of passes, and a member easy to save, to restore and to take out.
"""

import numpy as np
import torch
from torch import Tensor, nn


def pack(network: nn.Module) -> Tensor:
    """Move all parameters into one buffer (m, n_params) of which they become views; order of `parameters()`."""
    parameters = list(network.parameters())
    flat = torch.cat([p.detach().flatten(1) for p in parameters], 1)
    at = 0
    for p in parameters:
        n = p[0].numel()
        p.data = flat[:, at : at + n].unflatten(1, p.shape[1:])
        at += n
    return flat


@torch.no_grad()
def rows(network: nn.Module) -> Tensor:
    """Every member's parameters and buffers as a row: (m, n_numbers) float32, a copy; order of `state_dict()`."""
    return torch.cat([value.flatten(1).float() for value in network.state_dict().values()], 1)


@torch.no_grad()
def load_rows(network: nn.Module, values: Tensor) -> None:
    """Set every member's parameters and buffers from `rows`' output."""
    at = 0
    for value in network.state_dict().values():
        n = value[0].numel()
        value.copy_(values[:, at : at + n].unflatten(1, value.shape[1:]))
        at += n


def arrays(network: nn.Module, row: Tensor) -> dict[str, np.ndarray]:
    """One member's row as named arrays without the member axis: what a checkpoint holds."""
    found, at = {}, 0
    for name, value in network.state_dict().items():
        n = value[0].numel()
        found[name] = row[at : at + n].reshape(value.shape[1:]).cpu().numpy()
        at += n
    return found


def row_of(network: nn.Module, named: dict[str, np.ndarray]) -> Tensor:
    """A checkpoint's named arrays as a row; `network` says the order.

    Raises:
        ValueError: an array is missing, is not one of the network's, or has another shape; it is named.
    """
    wanted = {name: tuple(value.shape[1:]) for name, value in network.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in named.items()}
    if wanted != found:
        name = next(n for n in sorted({*wanted, *found}) if wanted.get(n) != found.get(n))
        raise ValueError(f"array {name!r} must have the shape {wanted.get(name)}, has {found.get(name)}")
    return torch.cat([torch.from_numpy(np.asarray(named[name], np.float32)).flatten() for name in wanted])
