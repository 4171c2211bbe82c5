"""An informer in a test: runs it, and turns its callbacks into something to await."""

import asyncio
from typing import Any

from finetune_operator.kube.client import KubeApi
from finetune_operator.kube.informer import Informer, WatchTiming
from finetune_operator.kube.resources import Kind

THINGS = Kind("v1", "Thing", "things")
FAST = WatchTiming(first_backoff=0.02, longest_backoff=0.2, premature=0.05)
Change = tuple[str, str]


class Watcher:
    """`async with Watcher(api) as watcher:` runs until the block ends; `await watcher.next()` is the next change."""

    kind = THINGS

    def __init__(self, api: KubeApi, **options: Any) -> None:
        self.informer = Informer(api, self.kind, **({"timing": FAST} | options))
        self._changes: asyncio.Queue[Change] = asyncio.Queue()
        self.informer.add_handler(self._on_change)

    def _on_change(self, old: Any, new: Any) -> None:
        verb = "add" if old is None else "delete" if new is None else "update"
        self._changes.put_nowait((verb, (new or old)["metadata"]["name"]))

    async def next(self) -> Change:
        async with asyncio.timeout(10):
            return await self._changes.get()

    async def take(self, count: int) -> set[Change]:
        return {await self.next() for _ in range(count)}

    @property
    def unread(self) -> int:
        return self._changes.qsize()

    def names(self) -> set[str]:
        return {item["metadata"]["name"] for item in self.informer.list()}

    async def __aenter__(self) -> "Watcher":
        self._task = asyncio.create_task(self.informer.run())
        async with asyncio.timeout(10):
            synced = asyncio.create_task(self.informer.synced.wait())
            await asyncio.wait({synced, self._task}, return_when=asyncio.FIRST_COMPLETED)
        if self._task.done():
            self._task.result()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
