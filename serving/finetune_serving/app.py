"""The HTTP application: probes at once, the model's routes once it is loaded."""

import logging
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from finetune_serving.error_responses import error_response, handle_request_error
from finetune_serving.errors import RequestError, bad_request
from finetune_serving.lifecycle import Lifecycle
from finetune_serving.limits import RequestLimits
from finetune_serving.metadata import metadata_router
from finetune_serving.metrics import Metrics, RequestMetrics
from finetune_serving.settings import Settings

log = logging.getLogger(__name__)


def create_app(settings: Settings, lifecycle: Lifecycle, metrics: Metrics) -> FastAPI:
    """An application that is alive but not ready; `serve_model` of a runtime adds the rest."""
    app = FastAPI(title="finetune-serving")
    app.include_router(metadata_router(settings.model, lifecycle, metrics))
    app.add_exception_handler(RequestError, handle_request_error)
    app.add_exception_handler(RequestValidationError, _handle_validation_error)
    app.add_exception_handler(HTTPException, _not_found(lifecycle))
    app.add_exception_handler(Exception, _handle_crash)
    app.add_middleware(JsonBodies)
    app.add_middleware(RequestLimits, limits=settings.limits, lifecycle=lifecycle, metrics=metrics)
    app.add_middleware(RequestMetrics, metrics=metrics)
    return app


class JsonBodies:
    """ASGI middleware: every body is JSON, whatever `curl -d` says that it is."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST":
            headers = [(name, value) for name, value in scope["headers"] if name != b"content-type"]
            # In place: the metrics around this read the matched route from the same scope.
            scope["headers"] = [*headers, (b"content-type", b"application/json")]
        await self.app(scope, receive, send)


async def _handle_validation_error(request: Request, error: Exception) -> Response:
    """400 in the protocol's shape: FastAPI's own 422 is in nobody's."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        reason = first.get("ctx", {}).get("error", "cannot be parsed")
        return error_response(request.url.path, RequestError(400, "invalid_json", f"the body is not JSON: {reason}"))
    field = _field_path(first["loc"]) or "body"
    message = first["msg"].removeprefix("Value error, ")
    return error_response(request.url.path, bad_request(field, f"{message}{_got(first)}"))


def _field_path(location: tuple[int | str, ...]) -> str:
    path = ""
    for part in location[1:]:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else part
    return path


def _got(detail: Any) -> str:
    """The wrong value, when it is short enough to help."""
    value = detail.get("input")
    if detail["type"] == "missing" or isinstance(value, (dict, list)):
        return ""
    text = repr(value)
    return f"; got {text if len(text) <= 80 else text[:80] + '…'}"


def _not_found(lifecycle: Lifecycle) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def handle(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if error.status_code == 400:  # FastAPI's only one
            found = RequestError(400, "invalid_json", "the body is not JSON: it is no UTF-8, or nested too deeply")
        elif error.status_code != 404:
            found = RequestError(error.status_code, "not_allowed", str(error.detail))
        elif not lifecycle.ready and not lifecycle.draining:
            found = lifecycle.refusal()
        else:
            found = RequestError(
                404, "route_not_found", f"{request.url.path}: no such route; GET /openapi.json lists them"
            )
        return error_response(request.url.path, found)

    return handle


async def _handle_crash(request: Request, error: Exception) -> Response:
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return error_response(
        request.url.path, RequestError(500, "internal_error", f"the model failed: {type(error).__name__}")
    )
