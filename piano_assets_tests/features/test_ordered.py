import threading
import time

import pytest

from piano_assets.features.ordered import ordered_map


@pytest.mark.parametrize("workers", [1, 3])
def test_results_come_in_order_with_progress(workers):
    seen = []

    def late(i: int) -> int:
        time.sleep(0.002 * (i % 3))
        return i * i

    got = list(ordered_map(late, range(40), workers, lambda done, total: seen.append((done, total))))
    assert got == [i * i for i in range(40)]
    assert seen == [(i, 40) for i in range(1, 41)]


def test_no_items_and_no_workers():
    assert list(ordered_map(str, [], 2)) == []
    with pytest.raises(ValueError, match="workers=0"):
        list(ordered_map(str, [1], 0))


def test_the_first_error_stops_the_rest_and_few_results_wait():
    started, gate = [], threading.Lock()

    def work(i: int) -> int:
        with gate:
            started.append(i)
        if i == 5:
            raise ValueError("clip 5")
        return i

    with pytest.raises(ValueError, match="clip 5"):
        list(ordered_map(work, range(1000), 2))
    assert len(started) < 30
