"""Metrics under the names of client-go and controller-runtime, so that existing dashboards and alerts work."""

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)

disable_created_metrics()  # type: ignore[no-untyped-call]

REGISTRY = CollectorRegistry()
"""Everything that /metrics shows; domain collectors register here too."""
ProcessCollector(registry=REGISTRY)
PlatformCollector(registry=REGISTRY)
GCCollector(registry=REGISTRY)

_QUEUE_BUCKETS = (1e-6, 1e-5, 1e-4, 1e-3, 5e-3, 1e-2, 5e-2, 0.1, 0.5, 1.0, 5.0, 10.0, 60.0, 300.0)
_RECONCILE_BUCKETS = (5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_REQUEST_BUCKETS = (5e-3, 2.5e-2, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0)
_QUEUE_LABELS = ("name", "controller")

QUEUE_DEPTH = Gauge("workqueue_depth", "Keys waiting in the queue.", _QUEUE_LABELS, registry=REGISTRY)
QUEUE_ADDS = Counter("workqueue_adds", "Keys added to the queue.", _QUEUE_LABELS, registry=REGISTRY)
QUEUE_LATENCY = Histogram(
    "workqueue_queue_duration_seconds",
    "How long a key waits before a worker takes it.",
    _QUEUE_LABELS,
    registry=REGISTRY,
    buckets=_QUEUE_BUCKETS,
)
QUEUE_WORK = Histogram(
    "workqueue_work_duration_seconds",
    "How long a worker needs for a key.",
    _QUEUE_LABELS,
    registry=REGISTRY,
    buckets=_QUEUE_BUCKETS,
)
QUEUE_RETRIES = Counter(
    "workqueue_retries", "Keys that were added again after a failure.", _QUEUE_LABELS, registry=REGISTRY
)
QUEUE_UNFINISHED = Gauge(
    "workqueue_unfinished_work_seconds",
    "Seconds of work in progress, summed over the keys being worked on.",
    _QUEUE_LABELS,
    registry=REGISTRY,
)
QUEUE_LONGEST_RUNNING = Gauge(
    "workqueue_longest_running_processor_seconds",
    "Seconds that the slowest key in progress has taken so far.",
    _QUEUE_LABELS,
    registry=REGISTRY,
)

RECONCILES = Counter(
    "controller_runtime_reconcile",
    "Reconciliations by result.",
    ("controller", "result"),
    registry=REGISTRY,
)
RECONCILE_ERRORS = Counter(
    "controller_runtime_reconcile_errors",
    "Reconciliations that ended in an error.",
    ("controller",),
    registry=REGISTRY,
)
RECONCILE_PANICS = Counter(
    "controller_runtime_reconcile_panics",
    "Reconciliations that ended in an exception that is not an API error.",
    ("controller",),
    registry=REGISTRY,
)
RECONCILE_TIME = Histogram(
    "controller_runtime_reconcile_time_seconds",
    "Seconds per reconciliation.",
    ("controller",),
    registry=REGISTRY,
    buckets=_RECONCILE_BUCKETS,
)
ACTIVE_WORKERS = Gauge(
    "controller_runtime_active_workers", "Workers that are busy.", ("controller",), registry=REGISTRY
)
MAX_WORKERS = Gauge("controller_runtime_max_concurrent_reconciles", "Workers.", ("controller",), registry=REGISTRY)

REQUESTS = Counter(
    "rest_client_requests",
    "Requests to the API server.",
    ("code", "method", "host"),
    registry=REGISTRY,
)
REQUEST_DURATION = Histogram(
    "rest_client_request_duration_seconds",
    "Seconds until the API server's answer was read.",
    ("verb", "host"),
    registry=REGISTRY,
    buckets=_REQUEST_BUCKETS,
)
REQUEST_RETRIES = Counter(
    "rest_client_request_retries",
    "Requests sent again because the API server asked for a pause.",
    ("code", "verb", "host"),
    registry=REGISTRY,
)

LEADER = Gauge("leader_election_master_status", "1 while this process holds the lease.", ("name",), registry=REGISTRY)

INFORMER_OBJECTS = Gauge("informer_cached_objects", "Objects in the cache.", ("kind", "namespace"), registry=REGISTRY)
INFORMER_LISTS = Counter("informer_lists", "Full lists of a kind.", ("kind", "namespace"), registry=REGISTRY)
INFORMER_WATCHES = Counter("informer_watches", "Watches opened.", ("kind", "namespace"), registry=REGISTRY)
INFORMER_ERRORS = Counter(
    "informer_errors", "Lists and watches that failed.", ("kind", "namespace", "reason"), registry=REGISTRY
)
INFORMER_AGE = Gauge(
    "informer_last_event_age_seconds",
    "Seconds since the API server was last heard on this watch.",
    ("kind", "namespace"),
    registry=REGISTRY,
)

EVENTS_DROPPED = Counter("event_recorder_dropped_events", "Events not written.", ("reason", "type"), registry=REGISTRY)
EVENTS_WRITTEN = Counter("event_recorder_written_events", "Events written.", ("type",), registry=REGISTRY)
