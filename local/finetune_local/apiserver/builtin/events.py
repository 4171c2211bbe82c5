"""Events: one storage, two APIs. Stored in the core form; events.k8s.io/v1 renames fields
(pkg/apis/events/v1/conversion.go).
"""

from typing import Any

Object = dict[str, Any]
# events.k8s.io/v1 name: core/v1 name
RENAMED = {
    "regarding": "involvedObject",
    "note": "message",
    "reportingController": "reportingComponent",
    "deprecatedSource": "source",
    "deprecatedFirstTimestamp": "firstTimestamp",
    "deprecatedLastTimestamp": "lastTimestamp",
    "deprecatedCount": "count",
}
TIMES = ("firstTimestamp", "lastTimestamp", "eventTime")
"""Always there, null where nobody set them: `kubectl get events --sort-by=.lastTimestamp` needs them."""
BACK = {core: new for new, core in RENAMED.items()}


def to_core(body: Object) -> Object:
    core = {RENAMED.get(key, key): value for key, value in body.items()}
    return core | {"apiVersion": "v1", "kind": "Event"}


def from_core(body: Object) -> Object:
    renamed = {BACK.get(key, key): value for key, value in body.items()}
    return renamed | {"apiVersion": "events.k8s.io/v1", "kind": "Event"}


def default_new_event(new: Object, _old: Object | None) -> None:
    new.setdefault("regarding", {})
    for time in TIMES:
        new.setdefault(BACK.get(time, time), None)


def default_core_event(new: Object, _old: Object | None) -> None:
    new.setdefault("involvedObject", {})
    new.setdefault("source", {})
    for time in TIMES:
        new.setdefault(time, None)
