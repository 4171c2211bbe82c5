"""The parts of one API server, put together without HTTP."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

from finetune_local.apiserver.audit import AuditSink
from finetune_local.apiserver.auth.service_account_tokens import ServiceAccountTokens, new_key
from finetune_local.apiserver.builtin.catalog import compiler, kinds
from finetune_local.apiserver.builtin.strategies import with_strategy
from finetune_local.apiserver.custom.registration import CustomResources
from finetune_local.apiserver.object_codec import ObjectCodec
from finetune_local.apiserver.operations import Operations
from finetune_local.apiserver.reading import Reader
from finetune_local.apiserver.request_options import WriteOptions
from finetune_local.apiserver.resource_type import ResourceType
from finetune_local.apiserver.revision_store import RevisionStore
from finetune_local.apiserver.status_error import StatusError, no_such_path
from finetune_local.apiserver.type_registry import TypeRegistry
from finetune_local.apiserver.watching import Watcher
from finetune_local.apiserver.webhooks.dispatch import WebhookAdmission

Object = dict[str, Any]
SYSTEM_NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")


@dataclass(frozen=True)
class LogRequest:
    """GET pods/NAME/log, as kubectl logs asks it."""

    namespace: str
    pod: str
    container: str
    follow: bool = False
    previous: bool = False
    timestamps: bool = False
    tail_lines: int | None = None
    limit_bytes: int | None = None


LogProvider = Callable[[LogRequest], AsyncIterator[bytes]]


Refuse = Callable[[str, str], StatusError | None]
"""From method and path to the error that is answered instead, or None."""


@dataclass
class Faults:
    """What tests inflict on clients: knobs that a real cluster turns by itself."""

    throttle_retry_after: int | None = None  # seconds; every request is answered 429
    throttle_next: int = 0  # so many requests are answered 429, then none
    thawed: asyncio.Event = field(default_factory=asyncio.Event)  # while not set, requests wait without an answer
    delay_seconds: float = 0.0  # before each answer
    refuse: Refuse | None = None
    lose_answer: Refuse | None = None  # of a write: it takes effect, and the error is answered all the same
    requests: dict[str, int] = field(default_factory=dict)  # count by "METHOD resource", for benchmarks and tests

    def __post_init__(self) -> None:
        self.thawed.set()

    def freeze(self) -> None:
        """Requests are accepted and not answered, until `thaw`. Open watches fall silent, too."""
        self.thawed.clear()

    def thaw(self) -> None:
        self.thawed.set()


class Cluster:
    """Store, kinds and operations of one API server. Everything is synchronous and runs on one event loop."""

    def __init__(self, store: RevisionStore | None = None, service_account_key: bytes | None = None) -> None:
        self.store = store or RevisionStore()
        self.tokens = ServiceAccountTokens(self.store, service_account_key or new_key())
        self.registry = TypeRegistry()
        meta = compiler().named("V1ObjectMeta")
        self.operations = Operations(self.store, ObjectCodec(meta))
        self.reader = Reader(self.store)
        self.admission = WebhookAdmission(self.store)
        self.custom_resources = CustomResources(self.operations, self.registry, meta)
        self.watchers: set[Watcher] = set()
        self.faults = Faults()
        self.audit: list[AuditSink] = []
        self.log_provider: LogProvider | None = None
        for resource in kinds():
            served = with_strategy(resource, self.store)
            self.registry.add(served)
            self.store.collection(served.key)
        self.custom_resources.restore()
        self._create_namespaces()

    def _create_namespaces(self) -> None:
        namespaces = self.resource("", "v1", "namespaces")
        for name in SYSTEM_NAMESPACES:
            if self.store.collection(namespaces.key).get("", name) is None:
                self.operations.create(namespaces, "", {"metadata": {"name": name}}, WriteOptions())

    def resource(self, group: str, version: str, plural: str) -> ResourceType:
        """Raises NotFound, as for a URL of a kind that is not served."""
        found = self.registry.find(group, version, plural)
        if found is None:
            raise no_such_path()
        return found

    def cut_watches(self) -> None:
        """Every open watch loses its connection."""
        for watcher in list(self.watchers):
            watcher.interrupt()

    def compact(self) -> None:
        """Forgets all history, as etcd's compaction does: older watches and old pages of lists get 410."""
        self.store.compact()
        self.reader.forget_snapshots()
