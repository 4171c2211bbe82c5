"""What a request asks besides its body: query parameters and the user behind it."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from finetune_local.apiserver.status_error import Cause, StatusError, bad_request, required, unsupported_value

if TYPE_CHECKING:
    from finetune_local.apiserver.webhooks.question import Admission

FIELD_VALIDATIONS = ("Ignore", "Warn", "Strict")


@dataclass(frozen=True)
class User:
    """An authenticated identity."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: dict[str, list[str]] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        info: dict[str, Any] = {"username": self.name, "groups": list(self.groups)}
        return info | ({"uid": self.uid} if self.uid else {}) | ({"extra": self.extra} if self.extra else {})


ADMIN = User("kubernetes-admin", ("system:masters", "system:authenticated"))


@dataclass
class WriteOptions:
    """Of creates, updates, patches and applies. Warnings are collected for the response's Warning headers."""

    field_manager: str = ""
    field_validation: str = "Warn"
    dry_run: bool = False
    force: bool = False
    user: User = ADMIN
    user_agent: str = "unknown"
    warnings: list[str] = field(default_factory=list)
    admission: "Admission | None" = None
    """What the webhooks have said so far; None: there are none to ask."""

    @property
    def manager(self) -> str:
        """Without a field manager the user agent's first word owns the fields."""
        return self.field_manager or self.user_agent.partition("/")[0] or "unknown"

    def check(self) -> None:
        if self.field_validation not in FIELD_VALIDATIONS:
            raise _invalid_options(unsupported_value("fieldValidation", self.field_validation, FIELD_VALIDATIONS))
        if len(self.field_manager) > 128:
            raise _invalid_options(
                Cause("FieldValueTooLong", "Too long: may not be more than 128 bytes", "fieldManager")
            )

    def check_apply(self) -> None:
        if not self.field_manager:
            raise _invalid_options(required("fieldManager", "is required for apply patch"))

    def report_unknown_fields(self, paths: list[str]) -> None:
        """Strict refuses, Warn warns, Ignore is silent."""
        if not paths or self.field_validation == "Ignore":
            return
        texts = [f'unknown field "{path}"' for path in paths]
        if self.field_validation == "Strict":
            raise bad_request("strict decoding error: " + ", ".join(texts))
        self.warnings += texts


def _invalid_options(cause: Cause) -> StatusError:
    return StatusError(
        422,
        "Invalid",
        f'PatchOptions.meta.k8s.io "" is invalid: {cause.field}: {cause.message}',
        group="meta.k8s.io",
        kind="PatchOptions",
        causes=[cause.as_dict()],
    )


@dataclass(frozen=True)
class DeleteOptions:
    grace_period_seconds: int | None = None
    propagation_policy: str = ""  # Background, Foreground, Orphan; empty for the kind's default
    uid: str = ""
    resource_version: str = ""
    dry_run: bool = False
    user: User = ADMIN
    warnings: list[str] = field(default_factory=list)
    admission: "Admission | None" = None

    @classmethod
    def from_body(cls, body: dict[str, Any]) -> "DeleteOptions":
        preconditions = body.get("preconditions") or {}
        policy = body.get("propagationPolicy") or ""
        if policy not in ("", "Background", "Foreground", "Orphan"):
            cause = unsupported_value("propagationPolicy", policy, ("Foreground", "Background", "Orphan", "nil"))
            raise StatusError(
                422,
                "Invalid",
                f'DeleteOptions.meta.k8s.io "" is invalid: {cause.field}: {cause.message}',
                group="meta.k8s.io",
                kind="DeleteOptions",
                causes=[cause.as_dict()],
            )
        if not policy and "orphanDependents" in body:
            policy = "Orphan" if body["orphanDependents"] else "Background"
        return cls(
            grace_period_seconds=body.get("gracePeriodSeconds"),
            propagation_policy=policy,
            uid=preconditions.get("uid") or "",
            resource_version=preconditions.get("resourceVersion") or "",
            dry_run=bool(body.get("dryRun")),
        )


@dataclass(frozen=True)
class ListOptions:
    label_selector: str = ""
    field_selector: str = ""
    limit: int = 0
    continue_: str = ""
    resource_version: str = ""
    resource_version_match: str = ""


@dataclass(frozen=True)
class WatchOptions:
    label_selector: str = ""
    field_selector: str = ""
    resource_version: str = ""
    resource_version_match: str = ""
    allow_bookmarks: bool = False
    send_initial_events: bool = False
    timeout_seconds: float | None = None
