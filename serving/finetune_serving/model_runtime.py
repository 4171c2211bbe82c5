"""What each task brings to the server. Imports PyTorch; `model_startup` imports this when the files are verified."""

import asyncio
import threading
from collections.abc import Sequence

from fastapi import APIRouter

from finetune_serving.batching import Batcher
from finetune_serving.classification import Classifier, Encoding, Prediction
from finetune_serving.compute import Threads
from finetune_serving.generation import Generator, Sampling
from finetune_serving.loading import LoadedModel
from finetune_serving.metrics import Metrics
from finetune_serving.model_startup import TaskRuntime
from finetune_serving.open_inference import ClassificationService, inference_router
from finetune_serving.openai_api import OpenAIService, openai_router
from finetune_serving.settings import Settings
from finetune_serving.text_stream import TextStreamer

WARM_UP_TEXT = "warm-up"


class ClassificationRuntime:
    """TextClassification over the Open Inference Protocol."""

    def __init__(self, settings: Settings, loaded: LoadedModel, threads: Threads, metrics: Metrics) -> None:
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

    def __init__(self, settings: Settings, loaded: LoadedModel, threads: Threads, metrics: Metrics) -> None:
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


def task_runtime(settings: Settings, loaded: LoadedModel, threads: Threads, metrics: Metrics) -> TaskRuntime:
    """The runtime of a model's task."""
    kinds: dict[str, type[ClassificationRuntime] | type[GenerationRuntime]] = {
        "TextClassification": ClassificationRuntime,
        "TextGeneration": GenerationRuntime,
    }
    return kinds[loaded.description.task](settings, loaded, threads, metrics)
