"""From a URI to a model in service: fetched, verified, loaded, warmed up, and joined to its routes."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any, Protocol

from fastapi import APIRouter, FastAPI

from finetune_serving.artifact import Artifact, open_artifact
from finetune_serving.compute import Threads
from finetune_serving.metadata import model_router
from finetune_serving.metrics import Metrics
from finetune_serving.settings import Settings
from finetune_serving.startup import StartupError

log = logging.getLogger(__name__)


class TaskRuntime(Protocol):
    """What a task brings to the server."""

    async def run(self) -> None:
        """Background work, until cancelled."""

    async def warm_up(self) -> None:
        """Answer one request of its own; raises when the model cannot."""

    def metadata(self) -> dict[str, Any]:
        """Inputs, outputs and parameters of the model's metadata."""

    def router(self) -> APIRouter: ...


async def run_model(
    app: FastAPI, settings: Settings, threads: Threads, metrics: Metrics, on_ready: Callable[[], None]
) -> None:
    """Load, warm up, join the routes, then work until cancelled. Raises StartupError."""
    begun = time.perf_counter()
    artifact = await threads.model.run(open_artifact, settings.model)
    runtime = await threads.model.run(_load_runtime, settings, artifact, threads, metrics)
    work = asyncio.create_task(runtime.run())
    try:
        await _warm_up(runtime, "the model does not answer its warm-up request")
        app.include_router(model_router(settings.model, runtime.metadata()))
        app.include_router(runtime.router())
        seconds = time.perf_counter() - begun
        metrics.load_seconds.set(seconds)
        metrics.model_info.labels(**_model_labels(settings, artifact)).set(1)
        on_ready()
        log.info("%s version %s ready in %.1f s", settings.model.name, settings.model.version, seconds)
        await _until_one_ends(work, asyncio.create_task(_stay_sound(runtime, threads.model.failed)))
    finally:
        work.cancel()


async def _until_one_ends(*tasks: asyncio.Task[None]) -> None:
    """Raises what it raised."""
    try:
        ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in ended:
            task.result()
    finally:
        for task in tasks:
            task.cancel()


async def _warm_up(runtime: TaskRuntime, failure: str) -> None:
    try:
        await runtime.warm_up()
    except Exception as error:
        raise StartupError(f"{failure}: {error}") from error


async def _stay_sound(runtime: TaskRuntime, failed: asyncio.Event) -> None:
    """After each failure in the model, see whether it can still answer a request that it has answered before.

    After some errors of a GPU no later call of the process succeeds; the kubelet starts it again when it has ended.
    """
    while True:
        await failed.wait()
        failed.clear()
        await _warm_up(runtime, "the model no longer answers its warm-up request, so it starts again")


def _load_runtime(settings: Settings, artifact: Artifact, threads: Threads, metrics: Metrics) -> TaskRuntime:
    """PyTorch takes seconds to import: the server listens, and a damaged artifact is refused, before that."""
    from finetune_serving.loading import load
    from finetune_serving.model_runtime import task_runtime

    return task_runtime(settings, load(settings.model, artifact), threads, metrics)


def _model_labels(settings: Settings, artifact: Artifact) -> dict[str, str]:
    return {
        "model": settings.model.name,
        "version": settings.model.version,
        "task": artifact.description.task,
        "format": artifact.description.format,
        "digest": artifact.digest,
    }
