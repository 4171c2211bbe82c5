"""Answers to requests that went wrong. Apart from the errors: the trainer raises those, and has no FastAPI."""

from fastapi import Request
from fastapi.responses import JSONResponse

from finetune_serving.errors import RequestError, error_body


def error_response(path: str, error: RequestError) -> JSONResponse:
    """OpenAI's error object below /v1, Open Inference Protocol's error string elsewhere."""
    headers = {"Retry-After": str(error.retry_after)} if error.retry_after is not None else None
    return JSONResponse(error_body(path, error), error.status, headers)


async def handle_request_error(request: Request, error: Exception) -> JSONResponse:
    """FastAPI's handler of RequestError."""
    assert isinstance(error, RequestError)
    return error_response(request.url.path, error)
