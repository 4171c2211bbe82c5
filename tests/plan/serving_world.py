"""A small imitation of what the API server and the Deployment controller do, for testing plans step by step."""

import copy
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from finetune_operator.plan.model_deployment import Event, Observed, Plan, plan_model_deployment
from finetune_operator.plan.named_objects import Named

Object = dict[str, Any]
IMAGE = "serving:test"
START = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)


def version(name: str, *, minute: int = 0, approved: bool = True, model: str = "tickets", **spec: Any) -> Object:
    """A ModelVersion made so many minutes past eight."""
    return {
        "metadata": {"name": name, "namespace": "ml", "creationTimestamp": f"2026-11-22T08:{minute:02}:00Z"},
        "spec": {
            "modelName": model,
            "artifact": {"uri": f"pvc://models/{name}", "digest": f"sha256:{'a' * 64}"},
            "task": "TextClassification",
            **spec,
        },
        "status": {"approved": approved},
    }


@dataclass
class World:
    """One ModelDeployment and what surrounds it. `step` plans, stores the status and applies the objects."""

    versions: list[Object]
    spec: Object = field(default_factory=lambda: {"modelName": "tickets", "replicas": 2})
    name: str = "tickets"
    status: Object = field(default_factory=dict)
    deployment: Object | None = None
    service: Object | None = None
    pods: list[Object] = field(default_factory=list)
    generation: int = 1
    now: datetime = START
    events: list[Event] = field(default_factory=list)
    refused: str = ""
    absent: frozenset[Named] = frozenset()

    @property
    def resource(self) -> Object:
        return {
            "metadata": {"name": self.name, "namespace": "ml", "uid": "uid-1", "generation": self.generation},
            "spec": self.spec,
            "status": self.status,
        }

    def plan(self) -> Plan:
        observed = Observed(self.versions, self.deployment, self.service, self.pods, self.absent)
        before = copy.deepcopy((self.resource, observed))
        plan = plan_model_deployment(self.resource, observed, self.now, IMAGE, self.refused)
        assert (self.resource, observed) == before, "a plan changes nothing that it is given"
        return plan

    def step(self) -> Plan:
        plan = self.plan()
        self.now += timedelta(seconds=1)
        self.status = plan.status
        self.events += plan.events
        for item in plan.objects:
            self._apply(copy.deepcopy(item))
        return plan

    def settle(self) -> None:
        """Step until nothing changes any more."""
        for _ in range(10):
            before = copy.deepcopy((self.status, self.deployment))
            self.step()
            if (self.status, self.deployment) == before:
                return
        raise AssertionError("the plan never comes to rest")

    def _apply(self, item: Object) -> None:
        if item["kind"] == "Service":
            self.service = item
            return
        old = self.deployment
        changed = old is None or old["spec"] != item["spec"]
        generation = (old["metadata"]["generation"] if old else 0) + changed
        item["metadata"]["generation"] = generation
        item["status"] = old["status"] if old else {}
        self.deployment = item

    def edit(self, **spec: Any) -> None:
        """What a user does: None removes a field."""
        self.spec = {name: value for name, value in (self.spec | spec).items() if value is not None}
        self.generation += 1

    # What the Deployment controller does.

    def roll_out(self) -> None:
        """Every pod is of the newest template, and ready."""
        assert self.deployment
        count = self.deployment["spec"]["replicas"]
        names = ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")
        self._report("True", "NewReplicaSetAvailable", dict.fromkeys(names, count))

    def get_stuck(self, old: int = 2) -> None:
        """One new pod is not ready, the old ones serve on, the deadline has passed."""
        counts = {"replicas": old + 1, "updatedReplicas": 1, "readyReplicas": old, "availableReplicas": old}
        self._report("False", "ProgressDeadlineExceeded", counts)

    def start_rolling(self, old: int = 2) -> None:
        counts = {"replicas": old + 1, "updatedReplicas": 1, "readyReplicas": old, "availableReplicas": old}
        self._report("True", "ReplicaSetUpdated", counts)

    def _report(self, status: str, reason: str, counts: dict[str, int]) -> None:
        assert self.deployment
        self.deployment["status"] = {
            "observedGeneration": self.deployment["metadata"]["generation"],
            "conditions": [{"type": "Progressing", "status": status, "reason": reason}],
            **counts,
        }

    def crash_pod(self, message: str, restarts: int = 3) -> None:
        """A pod of the newest template ends again and again."""
        assert self.deployment
        metadata = copy.deepcopy(self.deployment["spec"]["template"]["metadata"])
        ended = {"terminated": {"exitCode": 3, "message": message}}
        state = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}}
        container = {"restartCount": restarts, "ready": False, "state": state, "lastState": ended}
        self.pods.append({"metadata": metadata | {"name": "pod-1"}, "status": {"containerStatuses": [container]}})

    # What a user reads.

    @property
    def serving(self) -> str | None:
        """The version in the Deployment's pod template."""
        if self.deployment is None:
            return None
        return str(self.deployment["spec"]["template"]["metadata"]["annotations"]["finetune-operator.io/model-version"])

    def condition(self, kind: str) -> tuple[str, str]:
        found = next(c for c in self.status["conditions"] if c["type"] == kind)
        return found["status"], found["reason"]

    def message(self, kind: str) -> str:
        return str(next(c for c in self.status["conditions"] if c["type"] == kind)["message"])

    def reasons(self) -> list[str]:
        return [event.reason for event in self.events]


def serving_world(*versions: Object, **options: Any) -> World:
    """A world whose newest version is rolled out and stable."""
    world = World(list(versions), **options)
    world.settle()
    world.roll_out()
    world.settle()
    return world
