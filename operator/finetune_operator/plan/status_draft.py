"""The status as it will be: a copy that the steps of a plan fill in, and the events of what changed."""

import math
from datetime import datetime
from typing import Any

import orjson

from finetune_operator.plan.causes import Cause
from finetune_operator.plan.conditions import find_condition, is_true, with_condition
from finetune_operator.plan.observation import PodFacts
from finetune_operator.plan.pod_endings import Ending
from finetune_operator.plan.reasons import Reason
from finetune_operator.plan.timestamps import parse_time, rfc3339, seconds_between
from finetune_operator.plan.world import Event, Plan, Resource, World, Write

REPORTED = ("progress", "lastCheckpoint", "data", "bestMetric")
"""Fields of the status that belong to the progress receiver."""
OF_A_POD = ("pod", "node", "rank", "exitCode", "lastLogLines")
"""Fields of an attempt's record."""
KEPT_ATTEMPTS = 10
MESSAGE_LIMIT = 1024


class StatusDraft:
    """One plan in the making."""

    def __init__(self, world: World) -> None:
        self.world = world
        old = world.job.get("status") or {}
        self.status: Resource = orjson.loads(orjson.dumps({k: v for k, v in old.items() if k not in REPORTED}))
        self.generation: int = world.job["metadata"].get("generation", 0)
        self.now: datetime = world.now
        self.now_text = rfc3339(world.now)
        self.events: list[Event] = []
        self.writes: list[Write] = []
        self.requeue_after = math.inf
        self.unseen = False
        """See `Plan`."""

    @property
    def attempt(self) -> int:
        return int(self.status.get("attempt", 0))

    @property
    def record(self) -> Resource | None:
        """The current attempt's entry in `status.attempts`."""
        records = self.status.get("attempts") or []
        return records[-1] if records and records[-1]["number"] == self.attempt else None

    @property
    def reported(self) -> Resource:
        """What rank 0 of the current attempt last said; empty when it has not yet."""
        progress: Resource = (self.world.job.get("status") or {}).get("progress") or {}
        return progress if progress.get("attempt") == self.attempt else {}

    @property
    def finished(self) -> bool:
        return self.is_true("Succeeded") or self.is_true("Failed")

    @property
    def growing(self) -> bool:
        """Whether the last attempt ended for a larger one, which has not begun."""
        record = self.record or {}
        return record.get("cause") == Cause.RESIZED and self.status["nodes"] > record["nodes"]

    def is_true(self, condition: str) -> bool:
        return is_true(self.status.get("conditions"), condition)

    def condition(self, type_: str) -> Resource:
        """The condition of that type; empty when there is none."""
        return find_condition(self.status.get("conditions"), type_) or {}

    def set(self, type_: str, status: bool | None, reason: str, message: str = "") -> None:
        """Sets a condition; None is Unknown."""
        self.status["conditions"] = with_condition(
            self.status.get("conditions"),
            type_,
            status,
            reason,
            message[:MESSAGE_LIMIT],
            now=self.now_text,
            generation=self.generation,
        )

    def event(self, reason: Reason, note: str) -> None:
        self.events.append(Event(reason, note))

    def write_once(self, write: Write) -> None:
        """Whoever else in this step asks for it too."""
        if write not in self.writes:
            self.writes.append(write)

    def wake_after(self, seconds: float) -> None:
        """Look again by then at the latest."""
        self.requeue_after = min(self.requeue_after, max(seconds, 0.1))

    def active_seconds(self) -> float:
        """Time since the first start that was spent neither suspended nor in a queue."""
        total = seconds_between(self.status.get("startTime"), self.now)
        return total - int(self.status.get("suspendedSeconds", 0)) - self.queued_seconds()

    def queued_seconds(self) -> float:
        """For how long a queue has held the gang by now; 0 when none does."""
        admitted = self.condition("Admitted")
        waits = admitted.get("status") == "False"
        return seconds_between(admitted["lastTransitionTime"], self.now) if waits else 0.0

    def not_active(self, seconds: float) -> None:
        """So much time of the job does not count."""
        self.status["suspendedSeconds"] = int(self.status.get("suspendedSeconds", 0) + max(seconds, 0.0))

    def begin_attempt(self, resumed_from: int | None, nodes: int) -> int:
        """The next attempt, as an intention: it is `started` once its Job was seen."""
        number = self.attempt + 1
        record: dict[str, Any] = {
            "number": number,
            "nodes": nodes,
            "cause": "",
            "reason": "",
            "plannedAt": self.now_text,
        }
        if resumed_from is not None:
            record["resumedFromStep"] = resumed_from
        self.status["attempt"], self.status["nodes"] = number, nodes
        self.status["attempts"] = [*(self.status.get("attempts") or []), record][-KEPT_ATTEMPTS:]
        self.status.setdefault("startTime", self.now_text)
        self.status.setdefault("restarts", {"total": 0, "byCause": {}})
        return number

    def describe_ending(self, ending: Ending) -> None:
        """What is known so far of the current attempt's end."""
        record, pod = self.record, ending.pod
        if record is None:
            return
        for detail in OF_A_POD:  # what another pod showed is no evidence for this cause
            record.pop(detail, None)
        record.update(cause=str(ending.cause), reason=ending.reason[:MESSAGE_LIMIT])
        if pod:
            details = {
                "pod": pod.name,
                "node": pod.node,
                "rank": failed_rank(pod),
                "exitCode": pod.exit_code,
                "lastLogLines": pod.log_tail or None,
            }
            record.update({name: value for name, value in details.items() if value is not None})

    def end_attempt(self, cause: Cause, reason: str = "") -> None:
        """Closes the current attempt's entry; what was described before stays when nothing is given."""
        record = self.record
        if record is None:
            return
        if not record.get("cause") or reason:
            record.update(cause=str(cause), reason=reason[:MESSAGE_LIMIT])
        record["endedAt"] = self.now_text

    @property
    def ended_at(self) -> datetime | None:
        """When the current attempt ended."""
        return parse_time((self.record or {}).get("endedAt"))

    def plan(self) -> Plan:
        """The plan as drafted, with the summary conditions that kstatus reads."""
        self.status["observedGeneration"] = self.generation
        self._summarize()
        wait = self.requeue_after
        later = None if wait == math.inf else wait
        return Plan(self.status, tuple(self.writes), tuple(self.events), later, self.unseen)

    def _hindrance(self) -> str:
        """What the job waits for, in the words of the condition that shows it; empty when nothing is in its way."""
        conditions = (self.condition(type_) for type_ in ("Planned", "Validated", "Running", "Published"))
        return next((str(one["message"]) for one in conditions if one.get("status") == "False" and one["message"]), "")

    def _summarize(self) -> None:
        """https://github.com/kubernetes-sigs/cli-utils/tree/master/pkg/kstatus"""
        phase: str = self.status.setdefault("phase", "Pending")
        moving = phase not in ("Succeeded", "Failed", "Suspended")
        outcome = {} if moving else self.condition(phase)
        failed, message = phase == "Failed", outcome.get("message", "")
        reason = outcome.get("reason", phase) if failed else phase
        waiting = self._hindrance() if moving else ""
        self.set("Ready", phase == "Succeeded", reason, message or waiting)
        self.set("Reconciling", moving, phase, waiting)
        self.set("Stalled", failed, reason, message if failed else "")


def failed_rank(pod: PodFacts) -> int | None:
    """The process that failed, where it said so: a pod with several has ranks from its own index on."""
    said = pod.message.rank if pod.message else -1
    rank = said if said >= pod.rank else pod.rank
    return rank if rank >= 0 else None
