"""Who reports: a projected service-account token of a pod that belongs to the job's current attempt.

The token's audience names the job, so the API server vouches for it (TokenReview); the pod that it is bound to
must be a live one of the gang. A pod that merely asks for the audience is none of the job's.
"""

import asyncio
import hashlib
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from finetune_api.names import progress_audience
from finetune_operator.kube.client import KubeApi

TOKEN_REVIEWS = "/apis/authentication.k8s.io/v1/tokenreviews"
POD_NAME = "authentication.kubernetes.io/pod-name"
POD_UID = "authentication.kubernetes.io/pod-uid"
ACCOUNT = ["system", "serviceaccount"]
"""How the name of a user that is a service account begins; its namespace and name follow."""
REMEMBERED_SECONDS = 60.0
REFUSED_SECONDS = 10.0
"""Short: the API server may not know of a new pod yet."""
REMEMBERED_TOKENS = 10_000
"""Of each verdict, so that no flood of bad tokens drives out the good ones."""
PARALLEL_REVIEWS = 8
"""Anyone who reaches the receiver can cause them: most connections to the API server stay free for the others."""
REVIEWS_OF_ONE_JOB = 4
"""One pod of a gang reports; who floods one job's address holds up that job alone."""


Verdict = TypeVar("Verdict")
Key = tuple[str, str]
"""Hash of the token, and the audience."""


@dataclass(frozen=True)
class Bearer:
    """The pod that a token is bound to."""

    namespace: str
    pod_name: str
    pod_uid: str


class Unauthenticated(Exception):
    """401: no token, or one that the API server does not accept for this job."""


class Overloaded(Exception):
    """503: too many tokens for this job that nobody knows are being looked at."""


class TokenReviewer:
    """Asks the API server, a few times at once; remembers a yes for at most a minute, a no for some seconds."""

    def __init__(self, api: KubeApi, now: Callable[[], float] = time.monotonic) -> None:
        self._api = api
        self._now = now
        self._known: OrderedDict[Key, tuple[float, Bearer]] = OrderedDict()
        self._refused: OrderedDict[Key, tuple[float, str]] = OrderedDict()
        self._asking: Counter[str] = Counter()
        self._gate = asyncio.Semaphore(PARALLEL_REVIEWS)

    async def review(self, token: str, job: dict[str, Any]) -> Bearer:
        """The pod behind the token. Raises Unauthenticated, Overloaded; ApiError where nobody can be asked."""
        metadata = job["metadata"]
        audience = progress_audience(metadata["namespace"], metadata["name"], metadata["uid"])
        key = (hashlib.sha256(token.encode()).hexdigest(), audience)
        known = self._known.get(key)
        if known and known[0] > self._now():
            return known[1]
        refused = self._refused.get(key)
        if refused and refused[0] > self._now():
            raise Unauthenticated(refused[1])
        return await self._judge(key, token, audience)

    async def _judge(self, key: Key, token: str, audience: str) -> Bearer:
        if self._asking[audience] >= REVIEWS_OF_ONE_JOB:
            raise Overloaded("too many unknown tokens for this job at once, try again")
        self._asking[audience] += 1
        try:
            async with self._gate:
                bearer = await self._ask(token, audience)
        except Unauthenticated as no:
            _remember(self._refused, key, (self._now() + REFUSED_SECONDS, str(no)))
            raise
        finally:
            self._asking[audience] -= 1
            if not self._asking[audience]:
                del self._asking[audience]
        _remember(self._known, key, (self._now() + REMEMBERED_SECONDS, bearer))
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
        if len(names) != 1 or len(uids) != 1 or len(parts) != 4 or parts[:2] != ACCOUNT:
            raise Unauthenticated("the token is not bound to a pod")
        return Bearer(parts[2], names[0], uids[0])


def _remember(verdicts: OrderedDict[Key, Verdict], key: Key, verdict: Verdict) -> None:
    verdicts[key] = verdict
    verdicts.move_to_end(key)
    while len(verdicts) > REMEMBERED_TOKENS:
        verdicts.popitem(last=False)
