"""Time softmax attention on the CPU, forward and backward: ours in each precision beside torch's fused kernel.

    python -m benchmarks.attention

Shapes are the catalogue's reference at budget `reduced`: 32 crops, 4 heads, 80 tokens, 64 values a head, one thread.
Results go to `benchmarks/results/attention_cpu.json`, in milliseconds.
"""

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.environment import environment
from piano_assets.models.attention import vanilla

RESULTS = Path(__file__).parent / "results" / "attention_cpu.json"
SHAPE = (32, 4, 80, 64)
REPEATS = 30


def milliseconds(attend: Callable[[Tensor, Tensor, Tensor], Tensor], precision: torch.dtype) -> float:
    """Median of a forward and a backward pass, after three to warm up."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(SHAPE, generator=generator).to(precision).requires_grad_() for _ in range(3))
    took = []
    for _ in range(3 + REPEATS):
        started = time.process_time()
        attend(q, k, v).sum().backward()
        took.append(time.process_time() - started)
    return round(1e3 * statistics.median(took[3:]), 2)


def main() -> None:
    torch.set_num_threads(1)
    ways = {"ours": lambda q, k, v: vanilla(q, k, v, None), "torch": F.scaled_dot_product_attention}
    found = {
        str(precision).removeprefix("torch."): {name: milliseconds(way, precision) for name, way in ways.items()}
        for precision in (torch.float32, torch.bfloat16)
    }
    result = {"environment": environment(), "shape": SHAPE, "processor_ms": found}
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
