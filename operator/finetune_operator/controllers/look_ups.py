"""Asks by name for what nobody watches: Secrets, of which only the metadata is seen, queues, groups of pods."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from finetune_operator.kube.client import KubeApi
from finetune_operator.kube.errors import ApiError
from finetune_operator.kube.resources import SECRETS, Kind
from finetune_operator.plan.look_ups import questions
from finetune_operator.plan.named_objects import Named, Question
from finetune_operator.plan.world import World

log = logging.getLogger(__name__)
PLURALS = {"Secret": "secrets", "LocalQueue": "localqueues", "PodGroup": "podgroups"}
FIRST_SECONDS, LAST_SECONDS = 1.0, 30.0
"""Between two looks for what is not there: each is twice as long as the one before."""
FORBIDDEN_SECONDS = 600.0
"""Until rights that the operator did not have are tried again."""
FORGET_SECONDS = 900.0
"""After which answers that nobody has asked for again are dropped."""
PARALLEL, MOST_WAITING, MOST_ANSWERS = 8, 256, 10_000
"""Requests at once, those that wait for their turn, and what is remembered. Whoever may create jobs, or reaches the
webhooks, can cause them: most connections to the API server stay free for others, the renewal of the lease among them.
"""
Place = tuple[str, Named]
"""Namespace and object."""


@dataclass(frozen=True)
class LookedUp:
    """The answers to some questions."""

    absent: frozenset[Named] = frozenset()
    again: float | None = None
    """Seconds until they are worth asking again; None: they are not."""


@dataclass(frozen=True)
class _Answer:
    at: float
    there: bool | None
    """None: not known, for want of rights or of an API server."""
    misses: int = 0
    """How often in a row it was not there."""


class LookUps:
    """What cannot be asked is not known, and never counts as absent.

    Jobs that ask for the same object share the answer, and the request while it is under way.
    """

    def __init__(self, api: KubeApi, *, secrets: bool = True, clock: Callable[[], float] = time.monotonic) -> None:
        """`secrets`: whether the operator may ask for Secrets."""
        self._api = api
        self._secrets = secrets
        self._clock = clock
        self._answers: dict[Place, _Answer] = {}
        self._asking: dict[Place, asyncio.Task[_Answer]] = {}
        self._forbidden: dict[tuple[str, str], float] = {}
        """Until when a kind is not asked for in a namespace."""
        self._told: set[str] = set()
        self._turns = asyncio.Semaphore(PARALLEL)
        self._forget_at = clock() + FORGET_SECONDS

    async def with_answers(self, world: World) -> World:
        """The same world, with what is known of the objects that its next step depends on."""
        asked = questions(world)
        if not asked:
            return world
        found = await self.answer(world.namespace, asked)
        return replace(world, around=replace(world.around, absent=found.absent), look_again=found.again)

    async def answer(self, namespace: str, asked: Sequence[Question]) -> LookedUp:
        """From memory where that is fresh, else from the API server."""
        wanted = [one for one in asked if self._secrets or one.about.kind != "Secret"]
        answers = await asyncio.gather(*(self._answer(namespace, one) for one in wanted))
        answered = list(zip(wanted, answers, strict=True))
        absent = frozenset(question.about for question, answer in answered if answer.there is False)
        waits = [wait for one in answered if (wait := self._again(*one)) is not None]
        return LookedUp(absent, min(waits, default=None))

    def _again(self, question: Question, answer: _Answer) -> float | None:
        if answer.there is False and not question.kept:
            return self._left(question, answer) if question.about.possible else None
        if not question.kept:
            return None
        if answer.there is None:
            return question.fresh_seconds
        return self._left(question, answer) if answer.there else FIRST_SECONDS

    def _left(self, question: Question, answer: _Answer) -> float:
        return max(0.0, answer.at + _fresh(question, answer) - self._clock())

    async def _answer(self, namespace: str, question: Question) -> _Answer:
        now, place = self._clock(), (namespace, question.about)
        if not question.about.possible:
            return _Answer(now, there=False)
        known = self._answers.get(place)
        if known is not None and self._left(question, known) > 0:
            return known
        if self._forbidden.get((namespace, question.about.kind), 0.0) > now:
            return _Answer(now, there=None)
        if place not in self._asking:
            if len(self._asking) >= MOST_WAITING:
                return _Answer(now, there=None)
            task = self._asking[place] = asyncio.create_task(self._ask(namespace, question.about))
            task.add_done_callback(lambda _: self._asking.pop(place))
        return await asyncio.shield(self._asking[place])

    async def _ask(self, namespace: str, about: Named) -> _Answer:
        before = self._answers.get((namespace, about))
        async with self._turns:
            there = await self._is_there(namespace, about)
        now = self._clock()
        misses = (before.misses if before else 0) + 1 if there is False else 0
        self._forget(now)
        self._answers.pop((namespace, about), None)
        answer = self._answers[namespace, about] = _Answer(now, there, misses)
        while len(self._answers) > MOST_ANSWERS:
            del self._answers[next(iter(self._answers))]
        return answer

    def _forget(self, now: float) -> None:
        if now >= self._forget_at:
            self._forget_at = now + FORGET_SECONDS
            self._answers = {place: one for place, one in self._answers.items() if now < one.at + FORGET_SECONDS}

    async def _is_there(self, namespace: str, about: Named) -> bool | None:
        kind = SECRETS if about.kind == "Secret" else Kind(about.api_version, about.kind, PLURALS[about.kind])
        try:
            await self._api.get_metadata(kind, about.name, namespace)
        except ApiError as error:
            return self._not_found(namespace, about, error)
        return True

    def _not_found(self, namespace: str, about: Named, error: ApiError) -> bool | None:
        """Only an API server that knows the kind, and names the object, says that it is not there."""
        if error.not_found and (error.body.get("details") or {}).get("name") == about.name:
            return False
        if error.forbidden:
            self._forbidden[namespace, about.kind] = self._clock() + FORBIDDEN_SECONDS
            if about.kind not in self._told:
                self._told.add(about.kind)
                log.warning("whether a %s that a job names is there is not known: %s", about.kind, error)
        else:
            log.debug("%s %s/%s: %s", about.kind, namespace, about.name, error)
        return None


def _fresh(question: Question, answer: _Answer) -> float:
    """For how many seconds an answer holds; that what is ours has gone, not at all."""
    if answer.there is None:
        return FIRST_SECONDS
    if answer.there:
        return question.fresh_seconds
    return 0.0 if question.kept else min(FIRST_SECONDS * 2.0 ** min(answer.misses - 1, 10), LAST_SECONDS)
