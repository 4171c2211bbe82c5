"""What a plan looks at, and what it asks for."""

from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from finetune_operator.plan.attempt import Snapshot
from finetune_operator.plan.evidence import Evidence
from finetune_operator.plan.observation import NO_ATTEMPT, AttemptFacts
from finetune_operator.plan.reasons import Reason
from finetune_operator.plan.references import Surroundings
from finetune_operator.plan.settings import Settings

Resource = dict[str, Any]


@dataclass(frozen=True)
class World:
    """One FineTuneJob and everything around it that its next step depends on. Nothing here is ever changed."""

    job: Resource
    now: datetime
    settings: Settings
    attempts: Mapping[int, AttemptFacts] = field(default_factory=dict)
    room: AttemptFacts = field(default_factory=lambda: AttemptFacts(NO_ATTEMPT))
    """What holds room for a larger gang."""
    preflight: AttemptFacts = field(default_factory=lambda: AttemptFacts(NO_ATTEMPT))
    """The pod that looks while the first gang waits for its place."""
    bound_claims: Container[str] = frozenset()
    """PersistentVolumeClaims that have a volume."""
    parts: tuple[Resource, ...] = ()
    """ConfigMaps and Services of the attempts."""
    snapshot: Snapshot | None = None
    snapshot_lost: bool = False
    """The API server itself has no ConfigMap with it."""
    around: Surroundings = field(default_factory=Surroundings)
    """What the references of the job lead to; once it has a snapshot, the deployment and the APIs alone."""
    look_again: float | None = None
    """Seconds until what was looked for by name is worth another look; None: never."""
    versions: tuple[Resource, ...] = ()
    """ModelVersions that this job has made."""
    serving: Resource | None = None
    """The ModelDeployment that serves the model now: that one, or else another of the same model."""
    deployed_version: Resource | None = None
    evidence: Evidence = field(default_factory=Evidence)
    """Nodes and events of the current attempt, where they were worth a look."""
    deleting_for: Mapping[str, float] = field(default_factory=dict)
    """Seconds since the deletion of a pod was first seen here, by its uid; by no clock that is ever set."""
    has_account: bool = False
    """The account of the training pods is there."""
    policies: Mapping[str, Resource] | None = None
    """NetworkPolicies by name: the job's own and those that pods of its namespace share; None: not known."""

    @property
    def name(self) -> str:
        return str(self.job["metadata"]["name"])

    @property
    def namespace(self) -> str:
        return str(self.job["metadata"]["namespace"])

    @property
    def uid(self) -> str:
        return str(self.job["metadata"]["uid"])

    @property
    def deployment(self) -> Resource | None:
        """The ModelDeployment that `spec.deploy` names."""
        return self.around.deployment

    def facts(self, number: int) -> AttemptFacts:
        """Of one attempt; empty when nothing of it is there."""
        return self.attempts.get(number) or AttemptFacts(number)


@dataclass(frozen=True)
class Create:
    """Make the object unless it is there already; an object of the same name that is not ours is left alone."""

    body: Resource
    fallback: Resource | None = None
    """Made instead when the name is taken."""
    shared: bool = False
    """Whose object has the name does not matter."""
    dispensable: bool = False
    """The job goes on without it, where the API server does not take it."""


@dataclass(frozen=True)
class Apply:
    """Make the object, or put it right: only for what is ours by its name or its owner."""

    body: Resource


@dataclass(frozen=True)
class Delete:
    """Delete exactly this object: one made anew under its name is spared."""

    kind: Literal["Job", "Pod", "Service", "ConfigMap", "FineTuneJob"]
    namespace: str
    name: str
    uid: str
    propagation: Literal["Foreground", "Background"] = "Background"
    grace_seconds: int | None = None


Write = Create | Apply | Delete


@dataclass(frozen=True)
class Event:
    """Something that a person may want to know."""

    reason: Reason
    note: str


@dataclass(frozen=True)
class Plan:
    """The next step: first the status, then the writes, then the events."""

    status: Resource
    writes: tuple[Write, ...] = ()
    events: tuple[Event, ...] = ()
    requeue_after: float | None = None
    unseen: bool = False
    """It ends or restarts something for what the caches do not show: look at the live objects, and plan again."""
