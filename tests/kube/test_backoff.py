"""Clients that failed together do not come back together."""

from collections.abc import Callable

import pytest

from finetune_operator.kube.backoff import Backoff
from finetune_operator.kube.client import ApiError, HttpKubeApi
from finetune_operator.kube.work_queue import RateLimit, WorkQueue

DRAWS = 20


def spread(draw: Callable[[], float], least: float, most: float) -> bool:
    """Whether the draws lie in the range, and not on one spot of it."""
    drawn = [draw() for _ in range(DRAWS)]
    return all(least <= one <= most for one in drawn) and max(drawn) - min(drawn) > (most - least) / 10


@pytest.mark.parametrize("failures", [0, 3, 1000])
def test_each_wait_is_drawn_from_the_upper_half_of_its_step(failures: int) -> None:
    step = min(30.0, 0.8 * 2**failures)
    assert spread(lambda: Backoff(0.8, 30.0, failures=failures).next(), step / 2, step)


def test_success_begins_anew() -> None:
    backoff = Backoff(1.0, 64.0)
    for _ in range(5):
        backoff.next()
    assert backoff.next() >= 16
    backoff.reset()
    assert backoff.next() <= 1


async def test_keys_that_failed_at_once_are_tried_at_different_times() -> None:
    queue: WorkQueue[int] = WorkQueue(limit=RateLimit(base=1000.0, cap=4000.0))

    def due() -> float:
        queue.add_rate_limited(queue.delayed)
        return queue.due_in(queue.delayed - 1) or 0.0

    assert spread(due, 499.0, 1000.0)
    queue.shut_down()


async def test_a_pause_that_the_server_asks_for_is_a_little_longer_for_each(api: HttpKubeApi) -> None:
    asked = ApiError(429, "TooManyRequests", retry_after=10.0)
    assert spread(lambda: api._requests._pause(asked), 10.0, 11.0)
