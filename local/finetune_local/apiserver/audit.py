"""Who wrote what, in the order in which it took effect: the audit log of upstream at stage ResponseComplete."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class AuditEvent:
    """One request that was not a read, as audit.k8s.io/v1 names its parts."""

    revision: int
    """Of the store when the request had taken effect: the order of all writes."""
    user: str
    user_agent: str
    field_manager: str
    verb: str
    group: str
    resource: str
    subresource: str
    namespace: str
    name: str
    code: int
    """200 and above, below 300: it took effect."""
    at: float = field(default_factory=time.monotonic)

    @property
    def took_effect(self) -> bool:
        return 200 <= self.code < 300


AuditSink = Callable[[AuditEvent], None]
"""Called before anything else can change the store: what a sink reads there is what the write left behind."""
