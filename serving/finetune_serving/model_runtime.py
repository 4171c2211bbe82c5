"""What each task brings to the server. Imports PyTorch; `model_startup` imports this when the files are verified."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import Any

import torch
from fastapi import APIRouter

from finetune_serving.audio_classification import AudioClassifier
from finetune_serving.batching import Batcher
from finetune_serving.classification import TextClassifier
from finetune_serving.compute import Threads
from finetune_serving.errors import bad_request
from finetune_serving.generation import Generator, Sampling
from finetune_serving.image_classification import ImageClassifier
from finetune_serving.loading import LoadedModel
from finetune_serving.metrics import Metrics
from finetune_serving.model_startup import TaskRuntime
from finetune_serving.object_detection import ObjectDetector
from finetune_serving.open_inference import InferRequest, PredictionService, inference_router, tensor_metadata
from finetune_serving.openai_api import OpenAIService, openai_router
from finetune_serving.prediction import Predictor
from finetune_serving.question_answering import AnswerFinder
from finetune_serving.recommendation import ItemRecommender
from finetune_serving.scoring import CompletionScorer
from finetune_serving.settings import Settings
from finetune_serving.text_stream import TextStreamer
from finetune_serving.token_classification import EntityFinder

WARM_UP_TEXT = "warm-up"


class PredictionRuntime:
    """Whatever a predictor answers, over the Open Inference Protocol."""

    def __init__(self, predictor: Predictor, settings: Settings, task: str, threads: Threads, metrics: Metrics) -> None:
        self._source = settings.model
        self._task = task
        self._model_thread = threads.model
        self._batcher: Batcher[Any, Any] = Batcher(
            self._predict,
            max_size=settings.limits.max_batch_size,
            max_delay=settings.limits.max_batch_delay,
            on_batch=metrics.batch_size.observe,
        )
        self.service = PredictionService(predictor, self._batcher, threads.tokenizer)

    async def _predict(self, encodings: Sequence[Any]) -> list[Any]:
        return await self._model_thread.run(self.service.predictor.predict, encodings)

    async def run(self) -> None:
        await self._batcher.run()

    async def warm_up(self) -> None:
        await self.service.predict([self.service.predictor.warm_up], truncate=True)

    def metadata(self) -> dict[str, Any]:
        return {**tensor_metadata(self.service.predictor), "parameters": {"task": self._task}}

    def router(self) -> APIRouter:
        return inference_router(self._source, lambda request: self.service)


class MultiTaskRuntime:
    """Each subtask as a model of its own that shares the encoder; a request names the one that it is for."""

    def __init__(self, settings: Settings, loaded: LoadedModel, threads: Threads, metrics: Metrics) -> None:
        self._source = settings.model
        self._task = loaded.description.task
        self._subtasks = {
            name: PredictionRuntime(
                PREDICTORS[about.task](loaded.of_subtask(name)), settings, about.task, threads, metrics
            )
            for name, about in (loaded.description.subtasks or {}).items()
        }

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for runtime in self._subtasks.values():
                group.create_task(runtime.run())

    async def warm_up(self) -> None:
        for runtime in self._subtasks.values():
            await runtime.warm_up()

    def metadata(self) -> dict[str, Any]:
        subtasks = {name: runtime.metadata() for name, runtime in self._subtasks.items()}
        return {"inputs": [], "outputs": [], "parameters": {"task": self._task, "subtasks": subtasks}}

    def router(self) -> APIRouter:
        return inference_router(self._source, self._chosen)

    def _chosen(self, request: InferRequest) -> PredictionService:
        wanted, known = request.parameters.subtask, ", ".join(self._subtasks)
        if wanted is None:
            raise bad_request("parameters.subtask", f"name the subtask that the request is for, one of {known}")
        if wanted not in self._subtasks:
            raise bad_request("parameters.subtask", f"must be one of {known}; got {wanted!r}")
        return self._subtasks[wanted].service


class GenerationRuntime:
    """Generated text over OpenAI's API."""

    def __init__(self, settings: Settings, loaded: LoadedModel, threads: Threads, metrics: Metrics) -> None:
        self._settings = settings
        self._generator = Generator(loaded)
        self._model_thread = threads.model
        torch.seed()  # else every replica would draw the same, and again after each start
        streamer = TextStreamer(self._generator, threads.model, threads.tokenizer, metrics)
        self._service = OpenAIService(settings, self._generator, streamer, threads.tokenizer)

    async def run(self) -> None:
        await asyncio.Event().wait()

    async def warm_up(self) -> None:
        prompt = self._generator.encode(WARM_UP_TEXT)[:1]
        one_token = Sampling(max_tokens=1, temperature=0)
        await self._model_thread.run(self._generator.generate, prompt, one_token, lambda token: None, threading.Event())

    def metadata(self) -> dict[str, Any]:
        task = self._generator.task
        return {"inputs": [], "outputs": [], "parameters": {"task": task, "endpoint": "/v1"}}

    def router(self) -> APIRouter:
        return openai_router(self._settings, self._service)


PREDICTORS: dict[str, Callable[[LoadedModel], Predictor]] = {
    "AudioClassification": AudioClassifier,
    "ImageClassification": ImageClassifier,
    "ObjectDetection": ObjectDetector,
    "QuestionAnswering": AnswerFinder,
    "Recommendation": ItemRecommender,
    "RewardModeling": CompletionScorer,
    "TextClassification": TextClassifier,
    "TokenClassification": EntityFinder,
}
"""Tasks that answer without generating."""


def task_runtime(settings: Settings, loaded: LoadedModel, threads: Threads, metrics: Metrics) -> TaskRuntime:
    """The runtime of a model's task."""
    task = loaded.description.task
    if loaded.description.subtasks:
        return MultiTaskRuntime(settings, loaded, threads, metrics)
    if task in PREDICTORS:
        return PredictionRuntime(PREDICTORS[task](loaded), settings, task, threads, metrics)
    return GenerationRuntime(settings, loaded, threads, metrics)
