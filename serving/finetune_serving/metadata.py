"""Health and metadata of the Open Inference Protocol, and /metrics: what is there before the model is."""

from importlib.metadata import version
from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from finetune_serving.lifecycle import Lifecycle
from finetune_serving.metrics import Metrics
from finetune_serving.served_names import check_model
from finetune_serving.settings import ModelSource

PLATFORM = "pytorch_transformers"


def metadata_router(source: ModelSource, lifecycle: Lifecycle, metrics: Metrics) -> APIRouter:
    """Answers from the first moment on; readiness turns true when the model has answered its warm-up request."""
    router = APIRouter(tags=["Health"])

    @router.get("/v2")
    async def server_metadata() -> dict[str, Any]:
        return {"name": "finetune-serving", "version": version("finetune-operator"), "extensions": []}

    @router.get("/v2/health/live")
    async def live() -> dict[str, bool]:
        return {"live": True}

    @router.get("/v2/health/ready")
    async def ready() -> Response:
        return JSONResponse({"ready": lifecycle.ready}, 200 if lifecycle.ready else 503)

    @router.get("/v2/models/{name}/ready")
    @router.get("/v2/models/{name}/versions/{version}/ready")
    async def model_ready(name: str, version: str | None = None) -> Response:
        check_model(source, name, version)
        return JSONResponse({"name": name, "ready": lifecycle.ready}, 200 if lifecycle.ready else 503)

    @router.get("/metrics")
    async def prometheus() -> Response:
        metrics.ready.set(lifecycle.ready)
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    return router


def model_router(source: ModelSource, tensors: dict[str, Any]) -> APIRouter:
    """The metadata of the loaded model; `tensors` are its inputs, outputs and parameters."""
    router = APIRouter(tags=["Open Inference Protocol"])

    @router.get("/v2/models/{name}")
    @router.get("/v2/models/{name}/versions/{version}")
    async def model_metadata(name: str, version: str | None = None) -> dict[str, Any]:
        check_model(source, name, version)
        return {
            "name": source.name,
            "versions": [source.version],
            "platform": PLATFORM,
            **tensors,
        }

    return router
