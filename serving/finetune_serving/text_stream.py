"""One generation, from the model's thread to the event loop."""

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from finetune_serving.compute import SerialThread
from finetune_serving.generation import Generator, Sampling
from finetune_serving.incremental_text import IncrementalText
from finetune_serving.metrics import Metrics


@dataclass(frozen=True)
class Piece:
    """New text, possibly empty; the last piece says why it ended: `stop` or `length`."""

    text: str
    tokens: int
    """Generated so far."""
    finish_reason: str | None = None


class TextStreamer:
    """Runs generations one after the other and hands out their text as it comes."""

    def __init__(
        self, generator: Generator, model_thread: SerialThread, tokenizer_thread: SerialThread, metrics: Metrics
    ) -> None:
        self._generator = generator
        self._model_thread = model_thread
        self._tokenizer_thread = tokenizer_thread
        self._metrics = metrics

    async def stream(
        self, prompt: Sequence[int], sampling: Sampling, stops: Sequence[str]
    ) -> AsyncGenerator[Piece, None]:
        """Pieces of text. Closing the stream ends the generation after its current token."""
        self._metrics.prompt_tokens.inc(len(prompt))
        text = IncrementalText(self._generator.decode, stops)
        count = 0
        async with aclosing(self._tokens(prompt, sampling)) as tokens:
            async for token in tokens:
                count += 1
                if token in self._generator.end_tokens:
                    yield Piece(await self._tokenizer_thread.run(text.finish), count, "stop")
                    return
                new = await self._tokenizer_thread.run(text.push, token)
                if text.stopped:
                    yield Piece(new, count, "stop")
                    return
                yield Piece(new, count)
        yield Piece(await self._tokenizer_thread.run(text.finish), count, "length")

    async def _tokens(self, prompt: Sequence[int], sampling: Sampling) -> AsyncGenerator[int, None]:
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[int | None] = asyncio.Queue()
        cancelled = threading.Event()
        begun = time.perf_counter()

        def on_token(token: int) -> None:
            loop.call_soon_threadsafe(queue.put_nowait, token)

        work = asyncio.ensure_future(
            self._model_thread.run(self._generator.generate, prompt, sampling, on_token, cancelled)
        )
        # Tokens and this mark go through the same loop, so the mark comes last.
        work.add_done_callback(lambda _: queue.put_nowait(None))
        try:
            first = True
            while (token := await queue.get()) is not None:
                if first:
                    self._metrics.first_token.observe(time.perf_counter() - begun)
                    first = False
                self._metrics.generated_tokens.inc()
                yield token
            await work
        finally:
            cancelled.set()
            work.cancel()
