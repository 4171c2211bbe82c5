"""Responses: JSON bodies, Status objects and warnings."""

from collections.abc import Sequence
from typing import Any

import orjson
from aiohttp import web

from finetune_local.apiserver.status_error import StatusError

JSON = "application/json"


def json_response(body: bytes | dict[str, Any], status: int = 200, warnings: Sequence[str] = ()) -> web.Response:
    content = body if isinstance(body, bytes) else orjson.dumps(body)
    response = web.Response(body=content, status=status, content_type=JSON)
    for warning in warnings:
        response.headers.add("Warning", f'299 - "{quote(warning)}"')
    return response


def quote(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")


def error_response(error: StatusError) -> web.Response:
    response = json_response(error.status(), error.code)
    retry = error.details.get("retryAfterSeconds")
    if retry is not None:
        response.headers["Retry-After"] = str(retry)
    if error.code == 401:
        response.headers["WWW-Authenticate"] = 'Bearer realm="kubernetes-master"'
    return response
