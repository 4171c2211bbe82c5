"""What the API server knows of one served kind: names, schema, subresources and the hooks of its own rules."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from finetune_local.apiserver.schema import Schema
from finetune_local.apiserver.status_error import Cause

Object = dict[str, Any]
ALL_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


def _no_default(_new: Object, _old: Object | None) -> None:
    return


def _no_errors(_new: Object, _old: Object | None) -> list[Cause]:
    return []


def _same(body: Object) -> Object:
    return body


@dataclass(frozen=True)
class Column:
    """A printer column: of a CRD's additionalPrinterColumns, or of a built-in kind's table."""

    name: str
    type: str = "string"
    format: str = ""
    description: str = ""
    priority: int = 0
    json_path: str = ""


@dataclass(frozen=True)
class ScalePaths:
    """Where the scale subresource finds its numbers (JSON paths like `.spec.replicas`)."""

    spec_replicas: str = ".spec.replicas"
    status_replicas: str = ".status.replicas"
    label_selector: str = ""


@dataclass(frozen=True, eq=False)
class ResourceType:
    """A kind in one version. Kinds with the same `storage` key share their objects (Event lives in two groups)."""

    group: str
    version: str
    kind: str
    plural: str
    namespaced: bool = True
    singular: str = ""
    list_kind: str = ""
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    verbs: tuple[str, ...] = ALL_VERBS
    schema: Schema = field(default_factory=Schema)
    definition: str = ""  # name of the built-in OpenAPI definition; empty for custom resources
    status_subresource: bool = False
    scale: ScalePaths | None = None
    has_generation: bool = False
    columns: tuple[Column, ...] = ()
    row: Callable[[Object, float], list[Any]] | None = None  # cells of a built-in kind; custom resources use JSON paths
    storage: tuple[str, str] = ("", "")
    storage_version: str = ""
    to_storage: Callable[[Object], Object] = _same
    from_storage: Callable[[Object], Object] = _same
    set_defaults: Callable[[Object, Object | None], None] = _no_default
    check: Callable[[Object, Object | None], list[Cause]] = _no_errors
    name_error: Callable[[str], str] | None = None
    keeps_new_status: bool = False  # nodes register themselves with their status
    graceful: bool = False  # deletion waits for the kubelet (pods)
    selectable_fields: tuple[str, ...] = ()
    deprecation_warning: str = ""

    @property
    def custom(self) -> bool:
        return not self.definition

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def key(self) -> tuple[str, str]:
        """Where the objects are kept: (group, plural)."""
        return self.storage if self.storage != ("", "") else (self.group, self.plural)

    def path(self, namespace: str, name: str = "") -> str:
        prefix = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        scope = f"/namespaces/{namespace}" if self.namespaced and namespace else ""
        return f"{prefix}{scope}/{self.plural}" + (f"/{name}" if name else "")
