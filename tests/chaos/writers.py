"""Proof from the API server's audit: in each epoch of the lease, only its holder writes."""

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

from finetune_api.names import PROGRESS_FIELD_MANAGER
from finetune_local.apiserver.audit import AuditEvent
from finetune_local.cluster import Cluster
from finetune_operator.cli.local_installation import NAMESPACE
from finetune_operator.options import LEASE

LEASE_KEY = ("coordination.k8s.io", "leases")
NOT_THE_LEADERS = ("leases", "events", "tokenreviews")
"""The election itself; what is told of the past; questions."""


@dataclass
class Epoch:
    """One reign: from the write that took the lease to the one that ended it."""

    number: int
    holder: str
    """User of the process that took it."""
    began: float = field(default_factory=time.monotonic)
    writes: int = 0


class WriterAudit:
    """A sink of the API server's audit log. Writes are judged in the order in which they took effect."""

    def __init__(self, cluster: Cluster, prefix: str) -> None:
        self._cluster = cluster.server.cluster
        self._prefix = prefix
        self.epochs: list[Epoch] = []
        self.vacant = True
        self.violations: list[str] = []
        self._cluster.audit.append(self.note)

    @property
    def holder(self) -> str:
        """User of the process that may write now; empty when none may."""
        return "" if self.vacant or not self.epochs else self.epochs[-1].holder

    def note(self, event: AuditEvent) -> None:
        if not event.took_effect or not event.user.startswith(self._prefix):
            return
        if event.resource == "leases":
            self._note_lease(event)
        elif event.resource not in NOT_THE_LEADERS and event.field_manager != PROGRESS_FIELD_MANAGER:
            self._note_write(event)

    def _note_lease(self, event: AuditEvent) -> None:
        spec = self.lease()
        self.vacant = not spec.get("holderIdentity")
        number = int(spec.get("leaseTransitions") or 0)
        if not self.vacant and (not self.epochs or self.epochs[-1].number != number):
            self.epochs.append(Epoch(number, event.user))

    def _note_write(self, event: AuditEvent) -> None:
        if event.user != self.holder:
            what = f"{event.verb} {event.resource}/{event.subresource} {event.namespace}/{event.name}"
            reign = self.epochs[-1].number if self.epochs else None
            self.violations.append(f"revision {event.revision}, epoch {reign} of {self.holder}: {event.user} {what}")
        elif self.epochs:
            self.epochs[-1].writes += 1

    def lease(self) -> dict[str, Any]:
        """Its spec now."""
        stored = self._cluster.store.collection(LEASE_KEY).get(NAMESPACE, LEASE)
        spec: dict[str, Any] = stored.body["spec"] if stored else {}
        return spec

    async def next_epoch(self, after: int, seconds: float) -> Epoch:
        """The first one beyond so many."""
        deadline = time.monotonic() + seconds
        while len(self.epochs) <= after:
            if time.monotonic() > deadline:
                raise AssertionError(f"nobody took the lease within {seconds:g} s")
            await asyncio.sleep(0.01)
        return self.epochs[after]
