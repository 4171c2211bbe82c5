"""The FineTuneJob controller of a real operator, with a client that counts, and that can die at any write."""

import asyncio
import contextlib
from collections import Counter
from pathlib import Path
from typing import Any

from finetune_operator.controllers.fine_tune_job import build_controller
from finetune_operator.controllers.job_caches import JobCaches
from finetune_operator.kube.client import HttpKubeApi
from finetune_operator.kube.events import EventRecorder
from finetune_operator.kube.informer import Informer
from finetune_operator.plan.settings import Settings

WRITES = ("create", "patch", "delete", "apply", "replace", "replace_status")
SETTINGS = Settings("trainer:test", "http://127.0.0.1:1")


class CountingApi:
    """Passes everything on. With `die_after` it answers nothing any more once so many writes have taken effect."""

    def __init__(self, api: HttpKubeApi, die_after: int | None = None) -> None:
        self._api = api
        self._left = die_after
        self.requests: Counter[str] = Counter()
        self.dead = asyncio.Event()

    def __getattr__(self, verb: str) -> Any:
        method = getattr(self._api, verb)
        if verb not in (*WRITES, "get", "get_metadata", "list", "post"):
            return method

        async def call(*args: Any, **kwargs: Any) -> Any:
            if self.dead.is_set():
                await asyncio.Event().wait()
            self.requests[verb] += 1
            answer = await method(*args, **kwargs)
            if verb in WRITES and self._left is not None:
                self._left -= 1
                if self._left <= 0:
                    self.dead.set()
                    await asyncio.Event().wait()
            return answer

        return call


class OperatorUnderTest:
    """`async with`: caches full and the controller working; left: everything cancelled, as a SIGKILL would."""

    def __init__(
        self, kubeconfig: Path, die_after: int | None = None, settings: Settings = SETTINGS, *, leads: bool = True
    ) -> None:
        self._leads = leads
        self._kubeconfig = str(kubeconfig)
        self._settings = settings
        self._die_after = die_after
        self._tasks: list[asyncio.Task[Any]] = []
        self._watches: dict[Informer, asyncio.Task[Any]] = {}
        self._stack = contextlib.AsyncExitStack()
        self.api: CountingApi
        self.caches: JobCaches

    async def __aenter__(self) -> "OperatorUnderTest":
        http = await self._stack.enter_async_context(await HttpKubeApi.connect(self._kubeconfig))
        self.api = CountingApi(http, self._die_after)
        self.caches = JobCaches.build(http, None)
        recorder = EventRecorder(http, "finetune-operator")
        self.controller = build_controller(self.api, [self.caches], recorder, lambda: self._settings, workers=4)  # type: ignore[arg-type]
        self._watches = {informer: asyncio.create_task(informer.run()) for informer in self.informers}
        self._tasks = [*self._watches.values(), asyncio.create_task(recorder.run())]
        if self._leads:
            self.lead()
        for informer in self.informers:
            await informer.synced.wait()
        return self

    def lead(self) -> None:
        """Begins to act on what its caches show."""
        self._tasks.append(asyncio.create_task(self.controller.run()))

    async def deafen(self, *informers: Informer) -> None:
        """Their watches tell nothing any more, as over a half-open connection."""
        for informer in informers:
            self._watches[informer].cancel()
        await asyncio.gather(*(self._watches[one] for one in informers), return_exceptions=True)

    @property
    def informers(self) -> list[Informer]:
        return self.caches.all()

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._stack.aclose()
