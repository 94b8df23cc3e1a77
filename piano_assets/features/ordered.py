"""Run a function over many items in threads and hand the results back in order."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def ordered_map(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    workers: int,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[Result]:
    """Yield `function(item)` for every item, in the items' order, computed by `workers` threads.

    At most four results per worker wait, so that a slow consumer does not fill the memory. The first error stops the
    rest. BLAS runs on one thread meanwhile: its own threads would fight with these.
    """
    from threadpoolctl import threadpool_limits

    if workers < 1:
        raise ValueError(f"workers={workers} must be at least 1")
    waiting: deque[Future[Result]] = deque()
    remaining = iter(items)
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(workers) as pool:
        try:
            for item in remaining:
                waiting.append(pool.submit(function, item))
                if len(waiting) >= 4 * workers:
                    break
            for done in range(1, len(items) + 1):
                result = waiting.popleft().result()
                for item in remaining:
                    waiting.append(pool.submit(function, item))
                    break
                if progress is not None:
                    progress(done, len(items))
                yield result
        finally:
            for future in waiting:
                future.cancel()
