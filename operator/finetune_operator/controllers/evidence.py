"""Asks for the nodes and events that explain why pods end, or don't start. Only then: nobody watches all of them."""

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from finetune_operator.kube.client import KubeApi
from finetune_operator.kube.errors import ApiError
from finetune_operator.kube.resources import CORE_EVENTS, NODES
from finetune_operator.plan.evidence import (
    EventFacts,
    Evidence,
    NodeFacts,
    Questions,
    event_facts,
    node_facts,
    questions,
)
from finetune_operator.plan.world import World

log = logging.getLogger(__name__)
REMEMBERED_SECONDS = 10.0
MOST_EVENTS = 50
Asked = tuple[str, Questions]


class EvidenceReader:
    """Whatever cannot be read, for want of rights or of an API server, is not known; the plan does without."""

    def __init__(self, api: KubeApi, clock: Callable[[], float] = time.monotonic) -> None:
        self._api = api
        self._clock = clock
        self._answers: dict[Asked, tuple[float, Evidence]] = {}

    async def with_evidence(self, world: World) -> World:
        """The same world, with what is known around the current attempt."""
        attempt = int((world.job.get("status") or {}).get("attempt", 0))
        asked = questions(world.facts(attempt), world.now)
        if asked == Questions():
            return world
        return replace(world, evidence=await self._answer(world, asked))

    async def _answer(self, world: World, asked: Questions) -> Evidence:
        now = self._clock()
        self._answers = {key: kept for key, kept in self._answers.items() if kept[0] > now}
        key = (world.uid, asked)
        if key not in self._answers:
            evidence = await self._ask(world.namespace, asked)
            self._answers[key] = (now + REMEMBERED_SECONDS, evidence)
        return self._answers[key][1]

    async def _ask(self, namespace: str, asked: Questions) -> Evidence:
        nodes = [await self._node(name) for name in asked.nodes]
        events = [event for kind, name in asked.events_about for event in await self._events(namespace, kind, name)]
        return Evidence({one.name: one for one in nodes if one is not None}, tuple(events))

    async def _node(self, name: str) -> NodeFacts | None:
        try:
            return node_facts(name, await self._api.get(NODES, name))
        except ApiError as error:
            if error.not_found:
                return node_facts(name, None)
            log.debug("node %s: %s", name, error)
            return None

    async def _events(self, namespace: str, kind: str, name: str) -> list[EventFacts]:
        selector = f"involvedObject.kind={kind},involvedObject.name={name}"
        try:
            found = (await self._api.list(CORE_EVENTS, namespace, field_selector=selector, limit=MOST_EVENTS))["items"]
        except ApiError as error:
            log.debug("events about %s %s/%s: %s", kind, namespace, name, error)
            return []
        return [event_facts(one) for one in sorted(found, key=_last_seen)]


def _last_seen(event: dict[str, Any]) -> str:
    """RFC 3339 in UTC sorts as text."""
    series = event.get("series") or {}
    times = (series.get("lastObservedTime"), event.get("eventTime"), event.get("lastTimestamp"))
    return max(str(one) for one in (*times, "") if one is not None)
