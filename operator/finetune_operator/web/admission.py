"""The admission webhooks: `POST /validate` and `POST /default`, AdmissionReview v1.

Served on every replica, whoever leads. What is decided stands in `plan.admission`; here it meets HTTP and the caches.
https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/
"""

import asyncio
import base64
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any

import orjson
from aiohttp import web

from finetune_operator.controllers.job_caches import JobCaches, cache_of
from finetune_operator.controllers.look_ups import LookUps
from finetune_operator.plan.admission import Decision, decide, default_patch
from finetune_operator.plan.look_ups import before_start
from finetune_operator.plan.named_objects import Named
from finetune_operator.plan.references import Surroundings
from finetune_operator.web.request_body import read_body

log = logging.getLogger(__name__)
Resource = dict[str, Any]
MAX_REVIEW_BYTES = 4 * 1024 * 1024
"""An object and its predecessor, each at most 1.5 MiB in etcd, and what surrounds them."""
LARGE_REVIEW_BYTES = 256 * 1024
AT_ONCE, LARGE_AT_ONCE = 32, 2
"""Reviews that are in memory: whoever reaches the port can send them, and the leader is the same process. The others
wait with what the connection buffers."""
LOOK_SECONDS = 1.0
"""For what the job names; a part of the webhook's own time."""


@dataclass
class CachedKnowledge:
    """Implements `Knowledge`."""

    caches: list[JobCaches]
    absent: frozenset[Named] = frozenset()
    """What was looked for by name and is not there."""
    judged: list[tuple[Resource, Surroundings]] = field(default_factory=list)
    """The job whose surroundings were asked for."""

    def started(self, job: Resource) -> Resource | None:
        """The spec of the snapshot."""
        cache = cache_of(self.caches, job["metadata"]["namespace"])
        snapshot = cache.snapshot(job) if cache and job["metadata"].get("uid") else None
        return snapshot.spec if snapshot else None

    def around(self, job: Resource) -> Surroundings:
        """Empty for a namespace that this operator does not watch."""
        cache = cache_of(self.caches, job["metadata"]["namespace"])
        if cache is None:
            return Surroundings()
        around = replace(cache.surroundings(job), absent=self.absent)
        self.judged.append((job, around))
        return around


class AdmissionWebhooks:
    """Answers the API server."""

    def __init__(self, caches: list[JobCaches], look_ups: LookUps) -> None:
        self._caches = caches
        self._look_ups = look_ups
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._large_turns = asyncio.Semaphore(LARGE_AT_ONCE)

    def app(self) -> web.Application:
        """The aiohttp application."""
        app = web.Application(client_max_size=MAX_REVIEW_BYTES)
        app.router.add_post("/validate", self._handler(self._validate))
        app.router.add_post("/default", self._handler(self._default))
        return app

    def _handler(self, answer: Callable[[Resource], Awaitable[Resource]]) -> Any:
        async def handle(request: web.Request) -> web.Response:
            length = request.content_length
            large = length is None or length > LARGE_REVIEW_BYTES  # of unknown length: as the client likes
            async with self._large_turns if large else self._turns:
                asked = read_review(await read_body(request))
                response = {"uid": asked["uid"]} | await answer(asked)
            review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}
            return web.Response(body=orjson.dumps(review), content_type="application/json")

        return handle

    async def _validate(self, request: Resource) -> Resource:
        known = CachedKnowledge(self._caches)
        decision = decide(request, known)
        if absent := await self._absent(known):
            decision = decide(request, CachedKnowledge(self._caches, absent))
        return _response(request, decision)

    async def _default(self, request: Resource) -> Resource:
        """Judges, too: it is asked before the schema is checked, which would tell only some of the errors."""
        answer = _response(request, decide(request, CachedKnowledge(self._caches)))
        answer.pop("warnings", None)  # the validating webhook gives them
        patch = default_patch(request) if answer["allowed"] else []
        if not patch:
            return answer
        return answer | {"patchType": "JSONPatch", "patch": base64.b64encode(orjson.dumps(patch)).decode()}

    async def _absent(self, known: CachedKnowledge) -> frozenset[Named]:
        """Of what the job names; a warning that comes too late is none."""
        absent: frozenset[Named] = frozenset()
        for job, around in known.judged:
            asked = before_start(job["spec"], around)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    absent |= (await self._look_ups.answer(job["metadata"]["namespace"], asked)).absent
        return absent


def _response(request: Resource, decision: Decision) -> Resource:
    kind, name = request["kind"]["kind"], request.get("name") or "(new)"
    if decision.errors:
        log.info("refused %s %s/%s: %d errors", kind, request.get("namespace", ""), name, len(decision.errors))
    return decision.response(kind, name)


def read_review(body: bytes) -> Resource:
    """The request of a review. Raises 400 for anything else."""
    try:
        review = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise web.HTTPBadRequest(text=f"not JSON: {error}") from error
    request = review.get("request") if isinstance(review, dict) else None
    if not isinstance(request, dict) or review.get("apiVersion") != "admission.k8s.io/v1":
        raise web.HTTPBadRequest(text="not an AdmissionReview of admission.k8s.io/v1 with a request")
    kind = request.get("kind")
    if not isinstance(request.get("uid"), str) or not isinstance(kind, dict) or not isinstance(kind.get("kind"), str):
        raise web.HTTPBadRequest(text="the request needs uid and kind")
    return request
