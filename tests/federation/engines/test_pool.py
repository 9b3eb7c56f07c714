import os
import signal
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onebasin.federation.engine import EngineError
from onebasin.federation.engines.pool import Pool, assign
from onebasin.federation.run_config import RunConfig
from onebasin.federation.server.server import Server
from onebasin.learning.load_task import load_task


def test_work_is_spread_by_examples() -> None:
    assert assign({0: 10, 1: 6, 2: 5, 3: 1}, 2) == {0: 0, 1: 1, 2: 1, 3: 0}


@given(st.dictionaries(st.integers(0, 50), st.integers(0, 1000)), st.integers(1, 5))
def test_no_worker_has_more_than_its_share_and_one_client(sizes: dict[int, int], workers: int) -> None:
    home = assign(sizes, workers)
    assert home.keys() == sizes.keys()
    loads = [sum(max(sizes[c], 1) for c in home if home[c] == worker) for worker in range(workers)]
    largest = max((max(size, 1) for size in sizes.values()), default=0)
    assert max(loads) <= sum(loads) / workers + largest


def test_a_worker_that_dies_is_an_error(quick_config: Callable[..., RunConfig]) -> None:
    config = quick_config("fedavg")
    task = load_task(config)
    pool = Pool(config, dict.fromkeys(range(4), 1), 2)
    try:
        os.kill(pool._processes[1].pid or 0, signal.SIGKILL)
        with pytest.raises(EngineError, match=r"worker 1 of the pool died \(exit code -9\)"):
            list(pool.exchange(Server(config, task).open(1)))
    finally:
        pool.close()


def test_a_worker_that_cannot_load_its_task_is_an_error_with_the_reason(quick_config: Callable[..., RunConfig]) -> None:
    config = quick_config("fedavg")
    orders = Server(config, load_task(config)).open(1)
    broken = quick_config("fedavg", "task.clients=100000")
    pool = Pool(broken, dict.fromkeys(range(4), 1), 1)
    try:
        with pytest.raises(EngineError, match="worker 0 of the pool failed: PartitionError"):
            list(pool.exchange(orders))
    finally:
        pool.close()
