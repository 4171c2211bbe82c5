"""GET and LIST, with selectors and consistent paging."""

import base64
import binascii
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from finetune_local.apiserver import object_codec
from finetune_local.apiserver.request_options import ListOptions
from finetune_local.apiserver.resource_type import ResourceType
from finetune_local.apiserver.revision_store import RevisionStore, StoredObject
from finetune_local.apiserver.selectors import labels_match, parse_field_selector, parse_label_selector
from finetune_local.apiserver.status_error import StatusError, bad_request, expired, invalid_value, too_large

Object = dict[str, Any]
KEPT_SNAPSHOTS = 64
COMMON_FIELDS = ("metadata.name", "metadata.namespace")
FIELDS: dict[tuple[str, str], tuple[str, ...]] = {
    ("", "pods"): (
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "spec.hostNetwork",
        "status.phase",
        "status.podIP",
        "status.nominatedNodeName",
    ),
    ("", "events"): (
        "involvedObject.kind",
        "involvedObject.namespace",
        "involvedObject.name",
        "involvedObject.uid",
        "involvedObject.apiVersion",
        "involvedObject.resourceVersion",
        "involvedObject.fieldPath",
        "reason",
        "reportingComponent",
        "source",
        "type",
    ),
    ("", "namespaces"): ("status.phase",),
    ("", "nodes"): ("spec.unschedulable",),
    ("", "secrets"): ("type",),
    ("", "services"): ("spec.clusterIP", "spec.type"),
    ("batch", "jobs"): ("status.successful",),
    ("apps", "replicasets"): ("status.replicas",),
}


@dataclass(frozen=True)
class Page:
    items: Sequence[StoredObject]
    revision: int
    continue_: str = ""
    remaining: int | None = None

    def metadata(self) -> Object:
        """Of the list."""
        meta: Object = {"resourceVersion": str(self.revision)}
        if self.continue_:
            meta["continue"] = self.continue_
        if self.remaining:
            meta["remainingItemCount"] = self.remaining
        return meta

    def render(self, resource: ResourceType) -> bytes:
        head = {"kind": list_kind(resource), "apiVersion": resource.api_version, "metadata": self.metadata()}
        items = b",".join(object_codec.present(resource, item) for item in self.items)
        return orjson.dumps(head)[:-1] + b',"items":[' + items + b"]}"


def list_kind(resource: ResourceType) -> str:
    return resource.list_kind or resource.kind + "List"


def matcher(resource: ResourceType, label_selector: str, field_selector: str) -> Callable[[Object], bool] | None:
    """A test of stored bodies, or None when everything matches."""
    labels = parse_label_selector(label_selector) if label_selector else ()
    fields = parse_field_selector(field_selector, lambda name: is_selectable(resource, name)) if field_selector else ()
    if not labels and not fields:
        return None

    def matches(body: Object) -> bool:
        return labels_match(labels, body) and all(field.matches(body) for field in fields)

    return matches


def is_selectable(resource: ResourceType, field: str) -> bool:
    return field in COMMON_FIELDS or field in FIELDS.get(resource.key, ()) or field in resource.selectable_fields


class Reader:
    """Lists pages. Later pages of a list come from the snapshot of the first one, as etcd's revisions give it."""

    def __init__(self, store: RevisionStore) -> None:
        self._store = store
        self._snapshots: OrderedDict[str, tuple[int, list[StoredObject]]] = OrderedDict()
        self._counter = 0

    def list_page(self, resource: ResourceType, namespace: str, options: ListOptions) -> Page:
        if options.continue_:
            return self._continue(options)
        self._check_version(options)
        collection = self._store.collection(resource.key)
        matches = matcher(resource, options.label_selector, options.field_selector)
        items = [item for item in collection.items(namespace) if matches is None or matches(item.body)]
        return self._page(items, self._store.revision, options.limit, counted=matches is None)

    def _check_version(self, options: ListOptions) -> None:
        text = options.resource_version
        if options.resource_version_match and not text:
            raise _forbidden_match("resourceVersionMatch is forbidden unless resourceVersion is provided")
        if text and not text.isdigit():
            raise bad_request(f"Invalid value: {text!r}: strconv.ParseUint: parsing {text!r}: invalid syntax")
        wanted = int(text or 0)
        if wanted > self._store.revision:
            raise too_large(wanted, self._store.revision)
        if options.resource_version_match == "Exact" and wanted != self._store.revision:
            raise expired("The provided resource version is too old")

    def _page(self, items: list[StoredObject], revision: int, limit: int, counted: bool) -> Page:
        if not limit or len(items) <= limit:
            return Page(items, revision)
        rest = items[limit:]
        self._counter += 1
        token = base64.urlsafe_b64encode(orjson.dumps({"rv": revision, "page": self._counter})).decode()
        self._snapshots[token] = (revision, rest)
        while len(self._snapshots) > KEPT_SNAPSHOTS:
            self._snapshots.popitem(last=False)
        return Page(items[:limit], revision, token, len(rest) if counted else None)

    def _continue(self, options: ListOptions) -> Page:
        snapshot = self._snapshots.get(options.continue_)
        if snapshot is None:
            _check_token(options.continue_)
            raise expired(
                "The provided continue parameter is too old to display a consistent list result. You can start a new "
                "list without the continue parameter."
            )
        revision, items = snapshot
        return self._page(items, revision, options.limit, counted=True)

    def forget_snapshots(self) -> None:
        self._snapshots.clear()


def _check_token(token: str) -> None:
    try:
        decoded = orjson.loads(base64.urlsafe_b64decode(token))
    except (ValueError, binascii.Error):
        decoded = None
    if not isinstance(decoded, dict) or "rv" not in decoded:
        raise bad_request(f"continue key is not valid: {token[:40]!r}")


def _forbidden_match(message: str) -> StatusError:
    cause = invalid_value("resourceVersionMatch", "", message)
    return StatusError(
        422,
        "Invalid",
        f'ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: Forbidden: {message}',
        group="meta.k8s.io",
        kind="ListOptions",
        causes=[cause.as_dict() | {"reason": "FieldValueForbidden", "message": f"Forbidden: {message}"}],
    )
