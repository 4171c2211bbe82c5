"""Sharing forward passes."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from finetune_serving.batching import Batcher


class Squares:
    """A model whose forward passes can be held up and counted."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def predict(self, items: Sequence[int]) -> list[int]:
        self.batches.append(list(items))
        await self.gate.wait()
        if 13 in items:
            raise ValueError("13 is unlucky")
        return [item * item for item in items]


@asynccontextmanager
async def running(model: Squares, max_size: int = 4, max_delay: float = 0.0) -> AsyncIterator[Batcher[int, int]]:
    batcher: Batcher[int, int] = Batcher(model.predict, max_size=max_size, max_delay=max_delay)
    work = asyncio.create_task(batcher.run())
    try:
        yield batcher
    finally:
        work.cancel()


async def test_results_come_in_the_order_of_the_items() -> None:
    async with running(Squares()) as batcher:
        assert await batcher.submit(list(range(11))) == [n * n for n in range(11)]


async def test_requests_share_a_batch_up_to_its_size() -> None:
    model = Squares()
    async with running(model, max_size=4, max_delay=60) as batcher:
        answers = await asyncio.gather(*(batcher.submit([n]) for n in range(8)))
    assert answers == [[n * n] for n in range(8)]
    assert [len(batch) for batch in model.batches] == [4, 4]


async def test_a_lone_item_does_not_wait_for_ever() -> None:
    async with running(Squares(), max_delay=0.01) as batcher:
        async with asyncio.timeout(10):
            assert await batcher.submit([3]) == [9]


async def test_while_one_batch_runs_the_next_one_gathers() -> None:
    model = Squares()
    model.gate.clear()
    async with running(model) as batcher:
        first = asyncio.create_task(batcher.submit([1]))
        while not model.batches:
            await asyncio.sleep(0)
        others = [asyncio.create_task(batcher.submit([n])) for n in (2, 3, 4)]
        await asyncio.sleep(0)
        model.gate.set()
        await asyncio.gather(first, *others)
    assert model.batches == [[1], [2, 3, 4]]


async def test_a_request_of_many_items_does_not_hold_up_those_behind_it() -> None:
    model = Squares()
    model.gate.clear()
    async with running(model) as batcher:
        many = asyncio.create_task(batcher.submit(list(range(100, 120))))
        while not model.batches:
            await asyncio.sleep(0)
        few = asyncio.create_task(batcher.submit([1, 2]))
        await asyncio.sleep(0)
        model.gate.set()
        assert await few == [1, 4]
        assert await many == [n * n for n in range(100, 120)]
    assert [len(batch) for batch in model.batches] == [4] * 5 + [2]
    assert {1, 2} <= set(model.batches[1])


async def test_one_bad_item_does_not_fail_its_neighbours() -> None:
    async with running(Squares(), max_delay=60) as batcher:
        good, bad, other, last = await asyncio.gather(
            *(batcher.submit([n]) for n in (2, 13, 3, 4)), return_exceptions=True
        )
    assert (good, other, last) == ([4], [9], [16])
    assert isinstance(bad, ValueError)


async def test_items_of_a_client_that_left_are_dropped() -> None:
    model = Squares()
    model.gate.clear()
    async with running(model) as batcher:
        first = asyncio.create_task(batcher.submit([1]))
        while not model.batches:
            await asyncio.sleep(0)
        gone = asyncio.create_task(batcher.submit([2]))
        stays = asyncio.create_task(batcher.submit([3]))
        await asyncio.sleep(0)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        model.gate.set()
        assert await stays == [9]
        await first
    assert model.batches == [[1], [3]]
