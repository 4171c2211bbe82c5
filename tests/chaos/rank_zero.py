"""Rank 0 of a simulated gang: it reports to a replica's receiver as the trainer does, with the pod's own token."""

from typing import Any

import aiohttp

from finetune_operator.kube.client import KubeApi
from finetune_operator.kube.errors import ApiError
from web.receiver_under_test import projected_token

Resource = dict[str, Any]
TIMEOUT = aiohttp.ClientTimeout(total=5)


async def report(api: KubeApi, receiver: str, job: Resource, pod: Resource, step: int) -> int:
    """A step and its checkpoint. The answer's status; 0: no answer, or the pod is gone. It is lost then, as in life."""
    metadata = job["metadata"]
    body = {
        "attempt": job["status"]["attempt"],
        "step": step,
        "totalSteps": 100_000,
        "checkpoint": {"step": step, "uri": f"s3://c/{step}"},
    }
    url = f"{receiver}/v1/jobs/{metadata['namespace']}/{metadata['name']}/progress"
    try:
        headers = {"Authorization": f"Bearer {await projected_token(api, job, pod)}"}
        async with (
            aiohttp.ClientSession(timeout=TIMEOUT) as session,
            session.post(url, json=body, headers=headers) as got,
        ):
            return got.status
    except (ApiError, aiohttp.ClientError, TimeoutError):
        return 0
