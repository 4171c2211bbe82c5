"""The model in service: loaded, warmed up, and joined to its routes."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from fastapi import APIRouter, FastAPI

from finetune_serving.batching import Batcher
from finetune_serving.classification import Classifier, Encoding, Prediction
from finetune_serving.compute import SerialThread
from finetune_serving.generation import Generator, Sampling
from finetune_serving.loading import LoadedModel, load
from finetune_serving.metadata import model_router
from finetune_serving.metrics import Metrics
from finetune_serving.open_inference import ClassificationService, inference_router
from finetune_serving.openai_api import OpenAIService, openai_router
from finetune_serving.settings import Settings
from finetune_serving.startup import StartupError
from finetune_serving.text_stream import TextStreamer

log = logging.getLogger(__name__)

WARM_UP_TEXT = "warm-up"


class TaskRuntime(Protocol):
    """What a task brings to the server."""

    async def run(self) -> None:
        """Background work, until cancelled."""

    async def warm_up(self) -> None:
        """Answer one request of its own; raises when the model cannot."""

    def router(self) -> APIRouter: ...


class ClassificationRuntime:
    """TextClassification over the Open Inference Protocol."""

    def __init__(self, settings: Settings, loaded: LoadedModel, threads: "Threads", metrics: Metrics) -> None:
        self._source = settings.model
        self._classifier = Classifier(loaded)
        self._model_thread = threads.model
        self._batcher: Batcher[Encoding, Prediction] = Batcher(
            self._predict,
            max_size=settings.limits.max_batch_size,
            max_delay=settings.limits.max_batch_delay,
            on_batch=metrics.batch_size.observe,
        )
        self._service = ClassificationService(self._classifier, self._batcher, threads.tokenizer)

    async def _predict(self, encodings: Sequence[Encoding]) -> list[Prediction]:
        return await self._model_thread.run(self._classifier.predict, encodings)

    async def run(self) -> None:
        await self._batcher.run()

    async def warm_up(self) -> None:
        await self._service.classify([WARM_UP_TEXT], truncate=True)

    def router(self) -> APIRouter:
        return inference_router(self._source, self._service)


class GenerationRuntime:
    """TextGeneration over OpenAI's API."""

    def __init__(self, settings: Settings, loaded: LoadedModel, threads: "Threads", metrics: Metrics) -> None:
        self._settings = settings
        self._generator = Generator(loaded)
        self._model_thread = threads.model
        streamer = TextStreamer(self._generator, threads.model, threads.tokenizer, metrics)
        self._service = OpenAIService(settings, self._generator, streamer, threads.tokenizer)

    async def run(self) -> None:
        await asyncio.Event().wait()

    async def warm_up(self) -> None:
        prompt = self._generator.encode(WARM_UP_TEXT)[:1]
        one_token = Sampling(max_tokens=1, temperature=0)
        await self._model_thread.run(self._generator.generate, prompt, one_token, lambda token: None, threading.Event())

    def router(self) -> APIRouter:
        return openai_router(self._settings, self._service)


class Threads:
    """The threads of one model."""

    def __init__(self) -> None:
        self.model = SerialThread("model")
        self.tokenizer = SerialThread("tokenizer")

    def close(self) -> None:
        self.model.close()
        self.tokenizer.close()


async def run_model(
    app: FastAPI, settings: Settings, threads: Threads, metrics: Metrics, on_ready: Callable[[], None]
) -> None:
    """Load, warm up, join the routes, then work until cancelled. Raises StartupError."""
    begun = time.perf_counter()
    loaded = await threads.model.run(load, settings.model)
    runtime = task_runtime(settings, loaded, threads, metrics)
    work = asyncio.create_task(runtime.run())
    try:
        await _warm_up(runtime)
        app.include_router(model_router(settings.model, loaded.description))
        app.include_router(runtime.router())
        seconds = time.perf_counter() - begun
        metrics.load_seconds.set(seconds)
        metrics.model_info.labels(**_model_labels(settings, loaded)).set(1)
        on_ready()
        log.info("%s version %s ready in %.1f s", settings.model.name, settings.model.version, seconds)
        await work
    finally:
        work.cancel()


async def _warm_up(runtime: TaskRuntime) -> None:
    try:
        await runtime.warm_up()
    except Exception as error:
        raise StartupError(f"the model does not answer its warm-up request: {error}") from error


def task_runtime(settings: Settings, loaded: LoadedModel, threads: Threads, metrics: Metrics) -> TaskRuntime:
    """The runtime of the model's task."""
    kinds: dict[str, type[ClassificationRuntime] | type[GenerationRuntime]] = {
        "TextClassification": ClassificationRuntime,
        "TextGeneration": GenerationRuntime,
    }
    return kinds[loaded.description.task](settings, loaded, threads, metrics)


def _model_labels(settings: Settings, loaded: LoadedModel) -> dict[str, Any]:
    return {
        "model": settings.model.name,
        "version": settings.model.version,
        "task": loaded.description.task,
        "format": loaded.description.format,
        "digest": loaded.digest,
    }
