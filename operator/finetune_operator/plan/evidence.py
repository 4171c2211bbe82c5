"""What is known around the pods of a gang: their nodes, and the events about them. Both may be missing: reading them
takes rights that a namespaced installation does not have."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from finetune_api.masking import mask
from finetune_operator.plan.conditions import find_condition
from finetune_operator.plan.observation import AttemptFacts

Resource = dict[str, Any]


@dataclass(frozen=True)
class NodeFacts:
    """A node, as far as it explains the end of a pod."""

    name: str
    trouble: str = ""
    """Why it cannot be relied on: gone, not ready, silent; empty when it is well."""


@dataclass(frozen=True)
class EventFacts:
    """One event about the attempt's Job or one of its pods."""

    reason: str
    note: str
    kind: str
    name: str


@dataclass(frozen=True)
class Evidence:
    """Everything that is known."""

    nodes: Mapping[str, NodeFacts] = field(default_factory=dict)
    events: tuple[EventFacts, ...] = ()

    def trouble_of(self, node: str | None) -> str:
        """What is wrong with a node; empty when nothing is known to be."""
        found = self.nodes.get(node or "")
        return found.trouble if found else ""

    def newest(self, reasons: Sequence[str], name: str | None = None) -> EventFacts | None:
        """The last event with one of these reasons, about this object or any."""
        found = [one for one in self.events if one.reason in reasons and name in (None, one.name)]
        return found[-1] if found else None


UNKNOWN = Evidence()


def node_facts(name: str, node: Resource | None) -> NodeFacts:
    """Of a node as the API server has it; None: it has none of that name."""
    if node is None:
        return NodeFacts(name, f"node {name} does not exist any more")
    ready = find_condition((node.get("status") or {}).get("conditions"), "Ready") or {}
    if ready.get("status") == "True":
        return NodeFacts(name)
    words = ready.get("message") or ready.get("reason") or "it reports no status"
    return NodeFacts(name, f"node {name} is not ready: {words}")


def event_facts(event: Resource) -> EventFacts:
    """Of an event in either of its API versions."""
    about = event.get("regarding") or event.get("involvedObject") or {}
    note = event.get("note") or event.get("message") or ""
    return EventFacts(event.get("reason", ""), mask(note), about.get("kind", ""), about.get("name", ""))


LOOK_AFTER = timedelta(seconds=20)
"""Pods that start as they should have started by then."""
MOST_PODS = 4
MOST_NODES = 16


@dataclass(frozen=True)
class Questions:
    """What is worth asking the API server, for the pods' own statuses do not say it."""

    events_about: tuple[tuple[str, str], ...] = ()
    """(kind, name)"""
    nodes: tuple[str, ...] = ()


def questions(attempt: AttemptFacts, now: datetime) -> Questions:
    """Empty while all is well: a job that starts and ends as it should is never asked about."""
    if attempt.job is None or attempt.deleting:
        return Questions()
    ending = [pod for pod in attempt.pods if (pod.failed or pod.deleting_at) and not pod.disruption]
    if ending:
        # A pod that says nothing while its peers end is the one whose node is in question.
        silent_first = sorted(attempt.pods, key=lambda pod: (pod.ended, pod.deleting_at is None))
        nodes = {pod.node: None for pod in silent_first if pod.node and (pod in ending or not pod.ended)}
        return Questions(tuple(("Pod", pod.name) for pod in ending[:MOST_PODS]), tuple(nodes)[:MOST_NODES])
    since = attempt.waiting_since
    if since is None or now < since + LOOK_AFTER:
        return Questions()
    if not attempt.pods:
        return Questions((("Job", attempt.job["metadata"]["name"]),))
    mute = [pod for pod in attempt.pods if not (pod.running or pod.ended or pod.waiting_reason)]
    return Questions(tuple(("Pod", pod.name) for pod in mute[:MOST_PODS]))
