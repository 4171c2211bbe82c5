"""The admission webhooks: `POST /validate` and `POST /default`, AdmissionReview v1.

Served on every replica, whoever leads. What is decided stands in `plan.admission`; here it meets HTTP and the caches.
https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/
"""

import base64
import logging
from collections.abc import Callable
from typing import Any

import orjson
from aiohttp import web

from finetune_operator.controllers.job_caches import JobCaches, cache_of
from finetune_operator.plan.admission import decide, default_patch
from finetune_operator.plan.references import Surroundings

log = logging.getLogger(__name__)
Resource = dict[str, Any]
MAX_REVIEW_BYTES = 4 * 1024 * 1024
"""An object and its predecessor, each at most 1.5 MiB in etcd, and what surrounds them."""


class AdmissionWebhooks:
    """Answers the API server."""

    def __init__(self, caches: list[JobCaches]) -> None:
        self._caches = caches

    def app(self) -> web.Application:
        """The aiohttp application."""
        app = web.Application(client_max_size=MAX_REVIEW_BYTES)
        app.router.add_post("/validate", self._handler(self._validate))
        app.router.add_post("/default", self._handler(self._default))
        return app

    def _handler(self, answer: Callable[[Resource], Resource]) -> Any:
        async def handle(request: web.Request) -> web.Response:
            asked = read_review(await request.read())
            response = {"uid": asked["uid"]} | answer(asked)
            review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}
            return web.Response(body=orjson.dumps(review), content_type="application/json")

        return handle

    def _validate(self, request: Resource) -> Resource:
        decision = decide(request, self)
        kind, name = request["kind"]["kind"], request.get("name") or "(new)"
        if decision.errors:
            log.info("refused %s %s/%s: %d errors", kind, request.get("namespace", ""), name, len(decision.errors))
        return decision.response(kind, name)

    def _default(self, request: Resource) -> Resource:
        """Judges, too: it is asked before the schema is checked, which would tell only some of the errors."""
        answer = self._validate(request)
        answer.pop("warnings", None)  # the validating webhook gives them
        patch = default_patch(request) if answer["allowed"] else []
        if not patch:
            return answer
        return answer | {"patchType": "JSONPatch", "patch": base64.b64encode(orjson.dumps(patch)).decode()}

    def started(self, job: Resource) -> Resource | None:
        """The spec of the snapshot. Implements `Knowledge`."""
        cache = cache_of(self._caches, job["metadata"]["namespace"])
        snapshot = cache.snapshot(job) if cache and job["metadata"].get("uid") else None
        return snapshot.spec if snapshot else None

    def around(self, job: Resource) -> Surroundings:
        """Empty for a namespace that this operator does not watch. Implements `Knowledge`."""
        cache = cache_of(self._caches, job["metadata"]["namespace"])
        return cache.surroundings(job) if cache else Surroundings()


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
