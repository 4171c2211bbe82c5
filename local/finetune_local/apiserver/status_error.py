"""Errors of the Kubernetes API: every refused request carries a `Status` object whose `reason` clients switch on.

Messages follow k8s.io/apimachinery/pkg/api/errors and k8s.io/apimachinery/pkg/util/validation/field word for word,
because people grep for them and some clients parse them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Cause:
    """One entry of `details.causes`: what is wrong with which field."""

    reason: str
    message: str
    field: str

    def as_dict(self) -> dict[str, Any]:
        return {"reason": self.reason, "message": self.message, "field": self.field}


class StatusError(Exception):
    """A request that ends in a `Status` object instead of a resource."""

    def __init__(self, code: int, reason: str, message: str, **details: Any) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = {key: value for key, value in details.items() if value not in (None, "", [], {})}

    def status(self) -> dict[str, Any]:
        body: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
        }
        if self.details:
            body["details"] = self.details
        body["code"] = self.code
        return body


def bad_request(message: str) -> StatusError:
    return StatusError(400, "BadRequest", message)


def unauthorized() -> StatusError:
    return StatusError(401, "Unauthorized", "Unauthorized")


def forbidden(group: str, resource: str, name: str, message: str, *causes: Cause) -> StatusError:
    return StatusError(
        403,
        "Forbidden",
        f'{qualified(resource, group)} "{name}" is forbidden: {message}',
        name=name,
        group=group,
        kind=resource,
        causes=[cause.as_dict() for cause in causes],
    )


def not_found(group: str, resource: str, name: str) -> StatusError:
    return StatusError(
        404, "NotFound", f'{qualified(resource, group)} "{name}" not found', name=name, group=group, kind=resource
    )


def no_such_path() -> StatusError:
    return StatusError(404, "NotFound", "the server could not find the requested resource")


def method_not_allowed() -> StatusError:
    return StatusError(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")


def already_exists(group: str, resource: str, name: str) -> StatusError:
    return StatusError(
        409,
        "AlreadyExists",
        f'{qualified(resource, group)} "{name}" already exists',
        name=name,
        group=group,
        kind=resource,
    )


def conflict(group: str, resource: str, name: str, message: str) -> StatusError:
    return StatusError(
        409,
        "Conflict",
        f'Operation cannot be fulfilled on {qualified(resource, group)} "{name}": {message}',
        name=name,
        group=group,
        kind=resource,
    )


def stale_write(group: str, resource: str, name: str) -> StatusError:
    return conflict(
        group,
        resource,
        name,
        "the object has been modified; please apply your changes to the latest version and try again",
    )


def invalid(group: str, kind: str, name: str, errors: Sequence[Cause]) -> StatusError:
    """422 with every field error, the way field.ErrorList aggregates them."""
    texts = list(dict.fromkeys(f"{error.field}: {error.message}" for error in errors))
    listed = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
    return StatusError(
        422,
        "Invalid",
        f'{qualified(kind, group)} "{name}" is invalid: {listed}',
        name=name,
        group=group,
        kind=kind,
        causes=[error.as_dict() for error in errors],
    )


def unprocessable(message: str) -> StatusError:
    return StatusError(422, "Invalid", message)


def expired(message: str) -> StatusError:
    return StatusError(410, "Expired", message)


def too_old(requested: int, current: int) -> StatusError:
    return expired(f"too old resource version: {requested} ({current})")


def too_large(requested: int, current: int) -> StatusError:
    return StatusError(
        504,
        "Timeout",
        f"Too large resource version: {requested}, current: {current}",
        causes=[{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
        retryAfterSeconds=1,
    )


def too_many_requests(retry_after_seconds: int, message: str = "") -> StatusError:
    return StatusError(
        429,
        "TooManyRequests",
        message or "too many requests, please try again later",
        retryAfterSeconds=retry_after_seconds,
    )


def unsupported_media_type(content_type: str, supported: Sequence[str]) -> StatusError:
    return StatusError(
        415,
        "UnsupportedMediaType",
        f"the body of the request was in an unknown format - {content_type} - accepted media types include: "
        + ", ".join(supported),
    )


def not_acceptable(supported: Sequence[str]) -> StatusError:
    return StatusError(406, "NotAcceptable", f"only the following media types are accepted: {', '.join(supported)}")


def qualified(resource: str, group: str) -> str:
    """`deployments.apps`, or plain `pods` in the core group."""
    return f"{resource}.{group}" if group else resource


def required(field: str, message: str = "") -> Cause:
    return Cause("FieldValueRequired", f"Required value{': ' + message if message else ''}", field)


def invalid_value(field: str, value: Any, message: str) -> Cause:
    return Cause("FieldValueInvalid", f"Invalid value: {render(value)}: {message}", field)


def wrong_type(field: str, value: Any, message: str) -> Cause:
    return Cause("FieldValueTypeInvalid", f"Invalid value: {render(value)}: {message}", field)


def unsupported_value(field: str, value: Any, supported: Sequence[Any]) -> Cause:
    listed = ", ".join(render(item) for item in supported)
    return Cause("FieldValueNotSupported", f"Unsupported value: {render(value)}: supported values: {listed}", field)


def forbidden_field(field: str, message: str) -> Cause:
    return Cause("FieldValueForbidden", f"Forbidden: {message}", field)


def duplicate_value(field: str, value: Any) -> Cause:
    return Cause("FieldValueDuplicate", f"Duplicate value: {render(value)}", field)


def too_long(field: str, maximum: int) -> Cause:
    return Cause("FieldValueTooLong", f"Too long: may not be more than {maximum} bytes", field)


def too_many(field: str, actual: int, maximum: int) -> Cause:
    return Cause("FieldValueTooMany", f"Too many: {actual}: must have at most {maximum} items", field)


def render(value: Any) -> str:
    """A bad value inside a message: quoted if text, JSON kind if a container (its content may be large or secret)."""
    match value:
        case bool():
            return "true" if value else "false"
        case None:
            return "null"
        case str():
            return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
        case dict():
            return '"object"'
        case list():
            return '"array"'
    return str(value)
