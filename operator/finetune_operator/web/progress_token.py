"""Who reports: a projected service-account token of a pod that belongs to the job's current attempt.

The token's audience names the job, so the API server vouches for it (TokenReview); the pod that it is bound to
must be a live one of the gang. A pod that merely asks for the audience is none of the job's.
"""

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from finetune_api.names import progress_audience
from finetune_operator.kube.client import KubeApi

TOKEN_REVIEWS = "/apis/authentication.k8s.io/v1/tokenreviews"
POD_NAME = "authentication.kubernetes.io/pod-name"
POD_UID = "authentication.kubernetes.io/pod-uid"
REMEMBERED_SECONDS = 60.0
REMEMBERED_TOKENS = 10_000


@dataclass(frozen=True)
class Bearer:
    """The pod that a token is bound to."""

    namespace: str
    pod_name: str
    pod_uid: str


class Unauthenticated(Exception):
    """401: no token, or one that the API server does not accept for this job."""


class TokenReviewer:
    """Asks the API server, and remembers a yes for at most a minute; a no is never remembered."""

    def __init__(self, api: KubeApi, now: Callable[[], float] = time.monotonic) -> None:
        self._api = api
        self._now = now
        self._known: OrderedDict[tuple[str, str], tuple[float, Bearer]] = OrderedDict()

    async def review(self, token: str, job: dict[str, Any]) -> Bearer:
        """The pod behind the token. Raises Unauthenticated; ApiError when the API server cannot be asked."""
        metadata = job["metadata"]
        audience = progress_audience(metadata["namespace"], metadata["name"], metadata["uid"])
        key = (hashlib.sha256(token.encode()).hexdigest(), audience)
        known = self._known.get(key)
        if known and known[0] > self._now():
            return known[1]
        bearer = await self._ask(token, audience)
        self._remember(key, bearer)
        return bearer

    async def _ask(self, token: str, audience: str) -> Bearer:
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": [audience]},
        }
        status = (await self._api.post(TOKEN_REVIEWS, body)).get("status") or {}
        # An authenticator that ignores audiences would say yes to any token: it must name ours.
        if not status.get("authenticated") or audience not in (status.get("audiences") or []):
            raise Unauthenticated(status.get("error") or "the token is not valid for this job")
        user = status.get("user") or {}
        extra = user.get("extra") or {}
        names, uids = extra.get(POD_NAME) or [], extra.get(POD_UID) or []
        parts = str(user.get("username", "")).split(":")
        if len(names) != 1 or len(uids) != 1 or len(parts) != 4:
            raise Unauthenticated("the token is not bound to a pod")
        return Bearer(parts[2], names[0], uids[0])

    def _remember(self, key: tuple[str, str], bearer: Bearer) -> None:
        self._known[key] = (self._now() + REMEMBERED_SECONDS, bearer)
        self._known.move_to_end(key)
        while len(self._known) > REMEMBERED_TOKENS:
            self._known.popitem(last=False)
