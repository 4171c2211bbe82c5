"""What a TokenReview must say for a report to be somebody's: every part of the answer, and no part alone.

Authenticators differ: webhooks that ignore audiences, proxies that drop `extra`, users whose names look like accounts.
"""

import copy
from typing import Any, cast

import pytest

from finetune_api.names import progress_audience
from finetune_operator.kube.client import KubeApi
from finetune_operator.web.progress_token import (
    POD_NAME,
    POD_UID,
    REMEMBERED_SECONDS,
    Bearer,
    TokenReviewer,
    Unauthenticated,
)

Resource = dict[str, Any]
JOB = {"metadata": {"namespace": "ml", "name": "tickets", "uid": "u"}}
AUDIENCE = progress_audience("ml", "tickets", "u")
USER = {
    "username": "system:serviceaccount:ml:finetune-trainer",
    "extra": {POD_NAME: ["tickets-1-0-x"], POD_UID: ["1f"]},
}
YES: Resource = {"authenticated": True, "audiences": [AUDIENCE], "user": USER}


class Authenticator:
    """An API server of which only the answer to TokenReviews counts."""

    def __init__(self, status: Resource | None) -> None:
        self.status = status
        self.asked: list[Resource] = []

    async def post(self, path: str, body: Resource) -> Resource:
        self.asked.append(body)
        return copy.deepcopy(body | ({"status": self.status} if self.status is not None else {}))


def reviewer(authenticator: Authenticator, now: list[float] | None = None) -> TokenReviewer:
    return TokenReviewer(cast(KubeApi, authenticator), lambda: now[0] if now else 0.0)


async def test_who_is_vouched_for_is_the_pod_of_the_token() -> None:
    authenticator = Authenticator(YES)
    assert await reviewer(authenticator).review("t", JOB) == Bearer("ml", "tickets-1-0-x", "1f")
    assert authenticator.asked[0]["spec"] == {"token": "t", "audiences": [AUDIENCE]}


@pytest.mark.parametrize(
    "status",
    [
        None,
        {},
        YES | {"authenticated": False},
        YES | {"audiences": []},
        YES | {"audiences": None},
        YES | {"audiences": ["https://kubernetes.default.svc"]},
        YES | {"user": USER | {"extra": None}},
        YES | {"user": USER | {"extra": {POD_NAME: ["tickets-1-0-x"]}}},
        YES | {"user": USER | {"extra": {POD_UID: ["1f"]}}},
        YES | {"user": USER | {"extra": {POD_NAME: ["tickets-1-0-x"], POD_UID: ["1f", "2f"]}}},
        YES | {"user": USER | {"extra": {POD_NAME: ["tickets-1-0-x", "other"], POD_UID: ["1f"]}}},
        YES | {"user": USER | {"username": "system:node:gpu-1"}},
        YES | {"user": USER | {"username": "oidc:group:ml:finetune-trainer"}},
        YES | {"user": USER | {"username": "system:serviceaccount:ml:finetune-trainer:more"}},
    ],
)
async def test_no_part_of_the_answer_is_taken_for_granted(status: Resource | None) -> None:
    with pytest.raises(Unauthenticated):
        await reviewer(Authenticator(status)).review("t", JOB)


async def test_a_verdict_is_of_one_token_for_one_job_and_for_a_while() -> None:
    authenticator, now = Authenticator(YES), [0.0]
    review = reviewer(authenticator, now).review
    await review("t", JOB)
    await review("t", JOB)
    assert len(authenticator.asked) == 1
    authenticator.status = YES | {"authenticated": False}
    for token, job in (("other", JOB), ("t", {"metadata": JOB["metadata"] | {"uid": "made anew"}})):
        with pytest.raises(Unauthenticated):
            await review(token, job)
    now[0] = REMEMBERED_SECONDS + 1
    with pytest.raises(Unauthenticated):
        await review("t", JOB)
