"""What a device does while networks train: clocks and peaks, floating-point operations, and how long a GPU waits."""

import gc
import resource
import statistics
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

MATRIX = 8192
"""Rows and columns of the product whose rate stands for what the GPU can do."""


def clock(device: str) -> float:
    """Seconds, once all that was asked of the device is done."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    return time.perf_counter()


def processor_seconds() -> float:
    """Of this process and of its children that have ended."""
    gc.collect()  # ends the workers of loaders that nobody holds any more
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(u.ru_utime + u.ru_stime for u in used)


def forget_peaks(device: str) -> None:
    """Let `peaks` start anew."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    if device.startswith("cuda"):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def peaks(device: str) -> tuple[float, float]:
    """(largest resident memory of this process, largest memory allocated on the device) in MB."""
    status = Path("/proc/self/status").read_text().splitlines()
    host = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    return host / 1e3, torch.cuda.max_memory_allocated(device) / 1e6 if device.startswith("cuda") else 0.0


def matmul_rate(device: str, n: int = MATRIX, repeats: int = 10) -> float:
    """FLOP/s of bfloat16 products of random matrices: the median of `repeats` after three to warm up."""
    a, b = (torch.randn(n, n, device=device).bfloat16() for _ in range(2))
    took = []
    for _ in range(3 + repeats):
        started = clock(device)
        torch.matmul(a, b)
        took.append(clock(device) - started)
    return 2 * n**3 / statistics.median(took[3:])


def flops(network: nn.Module, frames: torch.Tensor) -> tuple[int, int]:
    """(of a training step, of a prediction): matrix products of a network of one member on `frames` (1, b, n, width).

    On the CPU with attention written out, whose products torch's counter knows.
    """
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as training:
        network(frames).sum().backward()
    with sdpa_kernel(SDPBackend.MATH), torch.no_grad(), FlopCounterMode(display=False) as predicting:
        network(frames)
    return training.get_total_flops(), predicting.get_total_flops()


def busy_seconds(intervals: Iterable[tuple[int, int]]) -> float:
    """Seconds covered by at least one of the intervals (start, duration) in nanoseconds."""
    covered, end = 0, 0
    for start, duration in sorted(intervals):
        covered += max(0, start + duration - max(start, end))
        end = max(end, start + duration)
    return covered / 1e9


def kernels(function: Callable[[], object], device: str) -> tuple[float, list[tuple[str, float, int]]]:
    """(seconds the device was busy, its most costly kernels with their seconds and calls) while `function` ran.

    Kernels last as long under the profiler as without it; what lies between them does not.
    """
    kind = torch.device(device).type
    activity = {"cuda": ProfilerActivity.CUDA, "cpu": ProfilerActivity.CPU}[kind]
    with profile(activities=[activity], acc_events=True) as seen:
        function()
        clock(device)
    # Reading the raw events spares building a tree of hundreds of thousands of them.
    raw = seen.profiler.kineto_results.events()  # type: ignore[union-attr]
    events = [e for e in raw if e.device_type().name.lower() == kind]
    by_name: dict[str, list[int]] = {}
    for e in events:
        by_name.setdefault(e.name(), []).append(e.duration_ns())
    costly = sorted(((name[:80], sum(ns) / 1e9, len(ns)) for name, ns in by_name.items()), key=lambda k: -k[1])
    return busy_seconds((e.start_ns(), e.duration_ns()) for e in events), costly[:12]


def accelerator(
    device: str,
    epochs: dict[str, dict[str, float]],
    of_a_member: float,
    runs: dict[str, Callable[[], object]],
    n_epochs: int,
) -> dict[str, Any]:
    """How well a GPU is used, by system.

    Args:
        epochs: system -> members, and the seconds of an epoch of all of them.
        of_a_member: FLOP of a member's epoch. runs: system -> train it for `n_epochs` epochs.
    """
    rate = matmul_rate(device)
    found: dict[str, Any] = {"bfloat16_matmul_tflops": round(rate / 1e12, 1), "systems": {}}
    for name, run in runs.items():
        one = epochs[name]
        achieved = one["members"] * of_a_member / one["seconds"]
        busy, costly = kernels(run, device)
        found["systems"][name] = {
            "tflops": round(achieved / 1e12, 2),
            "share_of_matmul_rate": round(achieved / rate, 4),
            "share_of_time_the_gpu_waits": round(max(0.0, 1 - busy / n_epochs / one["seconds"]), 3),
            "kernels": [{"name": n, "share": round(s / busy, 3), "calls": calls} for n, s, calls in costly],
        }
    return found
