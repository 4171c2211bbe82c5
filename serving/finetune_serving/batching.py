"""Dynamic batching: texts of different requests share one forward pass."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

log = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")


class Batcher(Generic[Item, Result]):
    """Collects items for at most `max_delay` seconds or until `max_size` wait, then calls `predict` once.

    While one batch runs the next one gathers, so under load batches fill up without waiting. Requests take turns, an
    item each: one of a thousand rows does not hold up those that come after it.
    """

    def __init__(
        self,
        predict: Callable[[Sequence[Item]], Awaitable[Sequence[Result]]],
        *,
        max_size: int,
        max_delay: float,
        on_batch: Callable[[int], None] = lambda size: None,
    ) -> None:
        self._predict = predict
        self._max_size = max_size
        self._max_delay = max_delay
        self._on_batch = on_batch
        self._requests: deque[deque[tuple[Item, asyncio.Future[Result]]]] = deque()
        self._arrived = asyncio.Event()

    async def submit(self, items: Sequence[Item]) -> list[Result]:
        """The results of `items`, in their order. When the caller is cancelled, its items are dropped."""
        loop = asyncio.get_running_loop()
        futures: list[asyncio.Future[Result]] = [loop.create_future() for _ in items]
        if futures:
            self._requests.append(deque(zip(items, futures, strict=True)))
            self._arrived.set()
        return list(await asyncio.gather(*futures))

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            batch = await self._next_batch()
            if batch:
                self._on_batch(len(batch))
                await self._answer(batch)

    async def _next_batch(self) -> list[tuple[Item, asyncio.Future[Result]]]:
        batch = [await self._next_item()]
        deadline = asyncio.get_running_loop().time() + self._max_delay
        while len(batch) < self._max_size:
            try:
                async with asyncio.timeout_at(deadline):
                    batch.append(await self._next_item())
            except TimeoutError:
                break
        return [(item, future) for item, future in batch if not future.done()]

    async def _next_item(self) -> tuple[Item, asyncio.Future[Result]]:
        while not self._requests:
            self._arrived.clear()
            await self._arrived.wait()
        request = self._requests.popleft()
        entry = request.popleft()
        if request:
            self._requests.append(request)
        return entry

    async def _answer(self, batch: list[tuple[Item, asyncio.Future[Result]]]) -> None:
        try:
            results = await self._predict([item for item, _ in batch])
        except Exception as error:
            await self._fail(batch, error)
            return
        for (_, future), result in zip(batch, results, strict=True):
            if not future.done():
                future.set_result(result)

    async def _fail(self, batch: list[tuple[Item, asyncio.Future[Result]]], error: Exception) -> None:
        """One item must not fail its neighbours: each is tried alone before it is given up."""
        if len(batch) == 1:
            _, future = batch[0]
            if not future.done():
                future.set_exception(error)
            return
        log.warning("a batch of %d failed, trying each alone: %s", len(batch), error)
        for entry in batch:
            await self._answer([entry])
