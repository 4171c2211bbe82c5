"""One thread for the model, one for the tokenizer: neither is safe to share, and both must leave the loop free."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class SerialThread:
    """Runs calls one after the other. A call that nobody waits for any more is dropped before it starts."""

    def __init__(self, name: str) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self.failed = asyncio.Event()
        """A call has raised since this was cleared."""

    async def run(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        future = self._executor.submit(function, *args, **kwargs)
        try:
            return await asyncio.wrap_future(future)
        except Exception:
            self.failed.set()
            raise

    def close(self) -> None:
        """Drop what waits; what runs is left to finish or to end with the process."""
        self._executor.shutdown(wait=False, cancel_futures=True)


class Threads:
    """The threads of one model."""

    def __init__(self) -> None:
        self.model = SerialThread("model")
        self.tokenizer = SerialThread("tokenizer")

    def close(self) -> None:
        self.model.close()
        self.tokenizer.close()
