"""What an API server's refusal, or its silence, looks like to the caller."""

from typing import Any

Object = dict[str, Any]
Objects = list[Object]


class ApiError(Exception):
    """A request that did not succeed.

    `status` is the HTTP code, or 0 when no answer came (connection refused or cut, time-out); `reason` is the
    machine-readable reason of the Status object (`NotFound`, `AlreadyExists`, `Conflict`, `Expired`,
    `Invalid` ...), or `Unreachable`; `retry_after` is in seconds, when the server asked for a pause.
    """

    def __init__(
        self,
        status: int,
        reason: str = "",
        message: str = "",
        body: Object | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(status, reason, message)
        self.status = status
        self.reason = reason
        self.message = message
        self.body = body or {}
        self.retry_after = retry_after

    def __str__(self) -> str:
        return f"{self.status} {self.reason}: {self.message}"

    @property
    def unreachable(self) -> bool:
        """No answer came: whether a write took effect is unknown."""
        return self.status == 0

    @property
    def not_found(self) -> bool:
        return self.status == 404

    @property
    def already_exists(self) -> bool:
        return self.status == 409 and self.reason == "AlreadyExists"

    @property
    def conflict(self) -> bool:
        """A stale resourceVersion, or a field that another manager owns."""
        return self.status == 409 and self.reason != "AlreadyExists"

    @property
    def gone(self) -> bool:
        """The resourceVersion or continue token is too old: list again."""
        return self.status == 410

    @property
    def invalid(self) -> bool:
        return self.status == 422

    @property
    def forbidden(self) -> bool:
        return self.status == 403

    @property
    def unauthorized(self) -> bool:
        return self.status == 401

    @property
    def too_many_requests(self) -> bool:
        return self.status == 429


def error_from_status(code: int, body: Object, text: str = "", retry_after: float | None = None) -> ApiError:
    """Error of an HTTP answer or of a watch stream's ERROR event; `body` is a Status object where there is one."""
    is_status = body.get("kind") == "Status"
    status = int(body.get("code") or code) if is_status else code
    if retry_after is None and is_status:
        retry_after = (body.get("details") or {}).get("retryAfterSeconds")
    reason = str(body.get("reason") or "") if is_status else ""
    message = str(body.get("message") or "") if is_status else text[:500]
    return ApiError(status, reason or f"Http{status}", message, body, retry_after)
