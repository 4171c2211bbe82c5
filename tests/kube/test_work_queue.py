"""client-go's promises: one worker per key, additions coalesced, nothing lost, failures ever later."""

import asyncio
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune_operator.kube.metrics import REGISTRY
from finetune_operator.kube.work_queue import QueueShutDown, RateLimit, TokenBucket, WorkQueue

QUICK = RateLimit(base=0.001, cap=0.01, per_second=10_000, burst=1000)


async def test_additions_of_a_waiting_key_are_one() -> None:
    queue: WorkQueue[str] = WorkQueue()
    for _ in range(3):
        queue.add("a")
    assert len(queue) == 1
    assert await queue.get() == "a"
    queue.done("a")
    assert len(queue) == 0


async def test_key_added_while_a_worker_has_it_comes_again_after_done() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    await queue.get()
    queue.add("a")
    queue.add("a")
    assert len(queue) == 0  # no second worker may have it
    queue.done("a")
    assert await queue.get() == "a"
    queue.done("a")
    assert len(queue) == 0


async def test_first_added_is_first_served() -> None:
    queue: WorkQueue[int] = WorkQueue()
    for key in range(10):
        queue.add(key)
    assert [await queue.get() for _ in range(10)] == list(range(10))


async def test_waiting_worker_is_woken() -> None:
    queue: WorkQueue[str] = WorkQueue()
    worker = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    queue.add("a")
    assert await worker == "a"


async def test_cancelled_worker_does_not_take_a_wake_up_with_it() -> None:
    queue: WorkQueue[str] = WorkQueue()
    first, second = asyncio.create_task(queue.get()), asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    queue.add("a")  # wakes the first
    first.cancel()
    async with asyncio.timeout(5):
        assert await second == "a"


async def test_earliest_of_several_delays_counts_and_the_key_comes_once() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add_after("a", 60)
    queue.add_after("a", 0.01)
    queue.add_after("a", 30)
    assert (len(queue), queue.delayed) == (0, 1)
    async with asyncio.timeout(5):
        assert await queue.get() == "a"
    queue.done("a")
    assert (len(queue), queue.delayed) == (0, 0)


async def test_delayed_keys_come_in_the_order_of_their_times() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add_after("late", 0.1)
    queue.add_after("early", 0.02)
    queue.add_after("now", 0)
    assert [await queue.get() for _ in range(3)] == ["now", "early", "late"]


async def test_failures_wait_exponentially_longer_until_forgotten() -> None:
    queue: WorkQueue[str] = WorkQueue(limit=RateLimit(base=1, cap=300, per_second=1e9, burst=10**6))
    delays = []
    for _ in range(12):
        queue.add_rate_limited("a")
        delays.append(queue.due_in("a"))
        queue._due.clear()
    for failures, delay in enumerate(delays):
        step = min(300.0, 2.0**failures)
        assert 0.5 * step - 0.1 <= delay <= step
    queue.forget("a")
    queue.add_rate_limited("a")
    assert queue.due_in("a") <= 1


async def test_many_failing_keys_share_one_bucket() -> None:
    queue: WorkQueue[int] = WorkQueue(limit=RateLimit(base=0.001, per_second=10, burst=100))
    for key in range(300):
        queue.add_rate_limited(key)
    waits = [queue.due_in(key) for key in range(300)]
    assert max(waits[:100]) <= 0.01
    assert 18 <= waits[299] <= 20.1  # 200 keys over the burst at 10/s


def test_token_bucket_refills_up_to_its_burst() -> None:
    bucket = TokenBucket(10, 2)
    assert [bucket.take(1.0) for _ in range(3)] == [True, True, False]
    assert bucket.take(1.1)
    assert [bucket.take(100.0) for _ in range(3)] == [True, True, False]


async def test_a_glitch_that_hits_thousands_of_keys_is_over_in_half_a_minute() -> None:
    queue: WorkQueue[int] = WorkQueue(limit=RateLimit(base=0.001))
    for key in range(10_000):
        queue.add_rate_limited(key)
    waits = sorted(queue.due_in(key) for key in range(10_000))
    assert waits[-1] <= RateLimit.longest_turn
    in_one_second = Counter(int(wait) for wait in waits)
    assert max(in_one_second.values()) < 3 * 10_000 / RateLimit.longest_turn, "they do not come back all at once"


async def test_times_that_are_taken_back_leave_nothing_behind() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add_after("soon", 0.01)
    for _ in range(2_000):
        queue.drop_delayed("busy")  # as each reconcile of a job with a deadline in days does
        queue.add_after("busy", 86400)
        queue.add_after("busy", 86000)
    assert queue.delayed == 2
    assert len(queue._delayed) < 100
    async with asyncio.timeout(5):
        assert await queue.get() == "soon"
    assert queue.due_in("busy") > 85_000


async def test_shut_down_ends_waiting_workers_and_takes_nothing_in() -> None:
    queue: WorkQueue[str] = WorkQueue()
    workers = [asyncio.create_task(queue.get()) for _ in range(3)]
    await asyncio.sleep(0)
    queue.add_after("later", 0.01)
    queue.shut_down()
    results = await asyncio.gather(*workers, return_exceptions=True)
    assert all(isinstance(result, QueueShutDown) for result in results)
    queue.add("a")
    with pytest.raises(QueueShutDown):
        await queue.get()


async def test_metrics_have_client_go_names() -> None:
    queue: WorkQueue[str] = WorkQueue("measured")
    queue.add("a")
    queue.add("b")
    queue.add_rate_limited("c")
    labels = {"name": "measured", "controller": "measured"}
    assert REGISTRY.get_sample_value("workqueue_depth", labels) == 2
    queue.done(await queue.get())
    await queue.get()
    assert REGISTRY.get_sample_value("workqueue_adds_total", labels) == 2
    assert REGISTRY.get_sample_value("workqueue_retries_total", labels) == 1
    assert REGISTRY.get_sample_value("workqueue_queue_duration_seconds_count", labels) == 2
    assert REGISTRY.get_sample_value("workqueue_work_duration_seconds_count", labels) == 1
    assert REGISTRY.get_sample_value("workqueue_unfinished_work_seconds", labels) > 0


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["add", "add_after", "add_rate_limited", "forget", "pause", "cancel-worker"]),
        st.integers(0, 4),
    ),
    max_size=60,
)


@settings(max_examples=80, deadline=None)
@given(steps=STEPS, workers=st.integers(1, 4), fail_every=st.integers(2, 5))
def test_never_two_workers_on_one_key_and_nothing_lost(
    steps: list[tuple[str, int]], workers: int, fail_every: int
) -> None:
    """Whatever is added, in whatever order: after each key's last addition, a worker has seen its last state."""
    asyncio.run(_play(steps, workers, fail_every))


async def _play(steps: list[tuple[str, int]], workers: int, fail_every: int) -> None:
    queue: WorkQueue[int] = WorkQueue(limit=QUICK)
    written: Counter[int] = Counter()  # the state of each key
    seen: dict[int, int] = {}  # the state that the last worker read
    busy: set[int] = set()
    calls = 0

    async def work() -> None:
        nonlocal calls
        while True:
            key = await queue.get()
            assert key not in busy
            busy.add(key)
            calls += 1
            failed = calls % fail_every == 0
            state = written[key]
            try:
                await asyncio.sleep(0)
            finally:
                busy.discard(key)
                if failed:
                    queue.add_rate_limited(key)
                else:
                    seen[key] = state
                    queue.forget(key)
                queue.done(key)

    tasks = [asyncio.create_task(work()) for _ in range(workers)]
    for verb, key in steps:
        if verb == "pause":
            await asyncio.sleep(0)
        elif verb == "cancel-worker":
            tasks.append(asyncio.create_task(work()))
            tasks.pop(0).cancel()
        elif verb == "forget":
            queue.forget(key)
        else:
            written[key] += 1
            getattr(queue, verb)(*((key, 0.002) if verb == "add_after" else (key,)))
    async with asyncio.timeout(20):
        while len(queue) or queue.delayed or queue.processing:
            await asyncio.sleep(0.001)
    for task in tasks:
        assert not task.done(), task
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert seen == dict(written)


async def test_a_delay_that_was_taken_back_adds_nothing() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add_after("a", 0.001)
    queue.add_after("b", 0.002)
    queue.drop_delayed("a")
    assert queue.delayed == 1
    assert await queue.get() == "b"
    assert (len(queue), queue.delayed) == (0, 0)
    queue.add_after("a", 0.001)
    assert await queue.get() == "a"


async def test_a_worker_that_is_cancelled_while_a_key_passes_it_over_ends_quietly() -> None:
    queue: WorkQueue[str] = WorkQueue()
    worker = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    worker.cancel()
    queue.add("a")  # finds the cancelled worker in the line before that has had its turn
    with pytest.raises(asyncio.CancelledError):
        await worker
    assert await queue.get() == "a"
