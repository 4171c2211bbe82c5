"""What tests do to a cluster: apply jobs, move pods by hand, wait for what follows."""

import asyncio
import copy
import json
from collections.abc import Awaitable, Callable
from typing import Any

from finetune_api.names import LABEL_ATTEMPT, LABEL_JOB
from finetune_local import timestamps
from finetune_operator.kinds import FINE_TUNE_JOBS
from finetune_operator.kube.client import KubeApi
from finetune_operator.kube.errors import ApiError
from finetune_operator.kube.resources import CONFIG_MAPS, EVENTS, JOBS, PODS, SERVICES, Kind
from plan.builders import RESULT, spec

Resource = dict[str, Any]
NAMESPACE = "ml"
PATIENCE_SECONDS = 30.0
QUICK = {
    "failurePolicy": {"backoffSeconds": 0},
    "dataset": {"train": {"source": "s3://data/train.jsonl"}, "split": {"test": 0.1}},
    "checkpoint": {"storage": "s3://checkpoints"},
}


class ClusterUser:
    """Acts through the API alone."""

    def __init__(self, api: KubeApi) -> None:
        self.api = api

    # Jobs

    async def apply(self, name: str = "tickets", **changes: Any) -> Resource:
        """Creates a FineTuneJob that restarts without delay and needs no volumes."""
        body = {
            "apiVersion": FINE_TUNE_JOBS.api_version,
            "kind": "FineTuneJob",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": spec(**(QUICK | changes)),
        }
        return await self.api.create(FINE_TUNE_JOBS, body, NAMESPACE)

    async def edit(self, name: str = "tickets", **changes: Any) -> Resource:
        return await self.api.patch(FINE_TUNE_JOBS, name, {"spec": changes}, NAMESPACE)

    async def job(self, name: str = "tickets") -> Resource:
        return await self.api.get(FINE_TUNE_JOBS, name, NAMESPACE)

    async def phase(self, wanted: str, name: str = "tickets", attempt: int | None = None) -> Resource:
        """Waits for it; the job then."""

        async def reached() -> Resource | None:
            job = await self.job(name)
            status = job.get("status") or {}
            right = status.get("phase") == wanted and attempt in (None, status.get("attempt"))
            return job if right else None

        return await eventually(reached, f"phase {wanted}", self.dump)

    async def observed(self, generation: int, name: str = "tickets") -> Resource:
        async def seen() -> Resource | None:
            job = await self.job(name)
            return job if (job.get("status") or {}).get("observedGeneration") == generation else None

        return await eventually(seen, f"generation {generation}", self.dump)

    async def events(self, name: str = "tickets") -> list[str]:
        items = (await self.api.list(EVENTS, NAMESPACE))["items"]
        return [e["reason"] for e in items if e["regarding"].get("name") == name]

    # Children

    async def names(self, kind: Kind) -> list[str]:
        selector = LABEL_JOB if kind in (JOBS, PODS, SERVICES, CONFIG_MAPS) else ""
        items = (await self.api.list(kind, NAMESPACE, label_selector=selector))["items"]
        return sorted(item["metadata"]["name"] for item in items)

    async def pods(self, attempt: int = 1, name: str = "tickets") -> list[Resource]:
        selector = f"{LABEL_JOB}={name},{LABEL_ATTEMPT}={attempt}"
        items = (await self.api.list(PODS, NAMESPACE, label_selector=selector))["items"]
        return sorted(items, key=lambda pod: pod["metadata"]["annotations"]["batch.kubernetes.io/job-completion-index"])

    async def end_pod(self, pod: Resource, exit_code: int, words: str = "", *, only_if_unchanged: bool = False) -> None:
        """As the kubelet reports the end of the trainer."""
        status = copy.deepcopy(pod["status"])
        status["phase"] = "Succeeded" if exit_code == 0 else "Failed"
        started = status["containerStatuses"][0]["state"].get("running", {}).get("startedAt", timestamps.now())
        status["containerStatuses"][0] |= {
            "ready": False,
            "started": False,
            "state": {
                "terminated": {
                    "exitCode": exit_code,
                    "reason": "Completed" if exit_code == 0 else "Error",
                    "message": words,
                    "startedAt": started,
                    "finishedAt": timestamps.now(),
                }
            },
        }
        for condition in status.get("conditions", []):
            if condition["type"] in ("Ready", "ContainersReady"):
                condition |= {"status": "False", "reason": "PodCompleted" if exit_code == 0 else "PodFailed"}
        version = {"resourceVersion": pod["metadata"]["resourceVersion"]} if only_if_unchanged else {}
        body = {"metadata": version, "status": status}
        await self.api.patch(PODS, pod["metadata"]["name"], body, NAMESPACE, subresource="status")

    async def finish_gang(self, attempt: int = 1, name: str = "tickets", **result: Any) -> None:
        """Every rank ends well; rank 0 tells of the result."""
        for rank, pod in enumerate(await self.pods(attempt, name)):
            words: Resource = {"outcome": "Succeeded", "rank": rank}
            if rank == 0:
                words["result"] = RESULT | result
            await self.end_pod(pod, 0, json.dumps(words))

    async def report_checkpoint(self, step: int, name: str = "tickets") -> None:
        """As the progress receiver writes it."""
        checkpoint = {"step": step, "uri": f"s3://c/{step}", "verifiedAt": timestamps.now()}
        await self.api.patch(
            FINE_TUNE_JOBS, name, {"status": {"lastCheckpoint": checkpoint}}, NAMESPACE, subresource="status"
        )

    async def gone(self, kind: Kind, name: str) -> None:
        async def missing() -> bool:
            try:
                await self.api.get(kind, name, NAMESPACE)
            except ApiError as error:
                return error.not_found
            return False

        await eventually(missing, f"{kind.kind} {name} gone", self.dump)

    async def dump(self) -> str:
        """What the cluster holds, for a failed wait."""
        jobs = (await self.api.list(FINE_TUNE_JOBS, NAMESPACE))["items"]
        children = {kind.kind: await self.names(kind) for kind in (JOBS, PODS, SERVICES, CONFIG_MAPS)}
        return json.dumps({"jobs": [job.get("status") for job in jobs], **children}, indent=1)


async def eventually(probe: Callable[[], Awaitable[Any]], what: str, dump: Callable[[], Awaitable[str]]) -> Any:
    """The first true answer. Fails with the cluster's state when none comes."""
    deadline = asyncio.get_running_loop().time() + PATIENCE_SECONDS
    while asyncio.get_running_loop().time() < deadline:
        if answer := await probe():
            return answer
        await asyncio.sleep(0.02)
    raise AssertionError(f"{what}: did not come within {PATIENCE_SECONDS:.0f} s; {await dump()}")
