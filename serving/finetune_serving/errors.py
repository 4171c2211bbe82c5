"""Errors of a request, in the shape that each protocol's clients expect."""

from typing import Any

OPENAI_PREFIX = "/v1/"

OPENAI_TYPES = {
    400: "invalid_request_error",
    404: "not_found_error",
    413: "invalid_request_error",
    429: "rate_limit_error",
    503: "service_unavailable_error",
    504: "timeout_error",
}


class RequestError(Exception):
    """A request that cannot be answered: status, what is wrong and what mends it, and the field at fault."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        field: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.field = field
        self.retry_after = retry_after


def bad_request(field: str, message: str, code: str = "invalid_value") -> RequestError:
    """400: `field` cannot be as it is."""
    return RequestError(400, code, f"{field}: {message}" if field else message, field=field or None)


def error_body(path: str, error: RequestError) -> dict[str, Any]:
    if path.startswith(OPENAI_PREFIX):
        kind = OPENAI_TYPES.get(error.status, "server_error")
        return {"error": {"message": error.message, "type": kind, "param": error.field, "code": error.code}}
    body: dict[str, Any] = {"error": error.message, "code": error.code}
    return body | ({"field": error.field} if error.field else {})
