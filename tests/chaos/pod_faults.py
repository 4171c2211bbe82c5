"""What befalls the pods of a gang, and by what cause the operator must know it."""

import asyncio
import random
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from chaos.rank_zero import report
from chaos.replicas import Replicas
from controllers.cluster_user import NAMESPACE, ClusterUser
from finetune_api.exit_codes import ExitCode
from finetune_api.names import LABEL_ATTEMPT, LABEL_JOB
from finetune_local.cluster import Cluster
from finetune_operator.kinds import FINE_TUNE_JOBS
from finetune_operator.kube.errors import ApiError
from finetune_operator.kube.resources import PODS
from finetune_operator.plan.causes import Cause
from plan.builders import last_words

Resource = dict[str, Any]
T = TypeVar("T")
GRACE_SECONDS = 2
"""Of the pods of the jobs here."""
ENDED_SECONDS, TRIES = 20.0, 3
"""How long a suspension may take to be seen, where the gang does not end before; then another gang is tried."""

SOON_SECONDS = 10.0
"""How long a gang to disturb is waited for, while there are jobs that have not finished."""
UNANSWERED_SECONDS = 3.0
"""How long a report waits for a receiver."""
SAME = {
    Cause.POD_LOST: (Cause.UNKNOWN, Cause.PREEMPTED),
    Cause.GPU_OUT_OF_MEMORY: (Cause.HOST_OUT_OF_MEMORY,),
}
"""What may be said instead, where a pod is gone with all that it could tell an operator that was away."""


@dataclass(frozen=True)
class End:
    """How a trainer ends by itself."""

    exit_code: int
    outcome: str
    words: str
    cause: Cause


CRASH = End(1, "Crash", "chaos", Cause.CRASH)
DISK_FULL = End(
    1,
    "Crash",
    "the checkpoint of step 9 could not be written, there is none before it: /mnt/pvc/c/tmp-step-00000009: No space "
    "left on device, 0 MiB free; enlarge the volume, delete what is not needed, or lower checkpoint.keep",
    Cause.CRASH,
)
OWN_FAULTS = (
    End(ExitCode.CONFIGURATION, "ConfigurationError", "model.source: there is no config.json", Cause.USER_ERROR),
    End(ExitCode.DATA, "DataError", "train.jsonl, line 7: no field 'label'", Cause.BAD_DATA),
    End(ExitCode.OUT_OF_MEMORY, "OutOfMemory", "CUDA out of memory. Tried to allocate 2 GiB", Cause.GPU_OUT_OF_MEMORY),
    End(ExitCode.OUT_OF_MEMORY, "OutOfMemory", "DefaultCPUAllocator: not enough memory", Cause.HOST_OUT_OF_MEMORY),
)
"""Of the user's configuration, data and sizes."""


class PodFaults:
    """Each does one thing to a gang that runs, if there is any."""

    def __init__(self, cluster: Cluster, user: ClusterUser, replicas: Replicas, chance: random.Random) -> None:
        self._cluster = cluster
        self._user = user
        self._replicas = replicas
        self._chance = chance
        self.done: Counter[str] = Counter()
        """What really came to a gang, and what the progress receiver answered."""
        self._steps: Counter[str] = Counter()
        self._own_faults: list[End] = []
        self._causes: defaultdict[tuple[str, int], list[Cause]] = defaultdict(list)
        """Job and attempt → the causes of all that was done to its pods."""

    async def crash_a_pod(self) -> None:
        await self._end(CRASH)

    async def fill_the_disk(self) -> None:
        """Rank 0 cannot write the checkpoint that it must write."""
        await self._end(DISK_FULL)

    async def end_by_its_own_fault(self) -> None:
        """Of the code, the data or the memory that was asked for: no chaos elsewhere may hide it."""
        if not self._own_faults:
            self._own_faults = self._chance.sample(OWN_FAULTS, len(OWN_FAULTS))
        await self._end(self._own_faults.pop())

    async def evict_a_pod(self) -> None:
        if pod := await self.running_pod():
            condition = {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}
            pod["status"]["conditions"] = [*pod["status"].get("conditions", []), condition]
            await self._end_pod(pod, 143, "", Cause.EVICTED)

    async def delete_a_pod(self) -> None:
        if pod := await self.running_pod():
            self._note(pod, Cause.POD_LOST)
            await self._user.api.delete(PODS, pod["metadata"]["name"], NAMESPACE)

    async def slow_storage(self) -> None:
        """From now on a gang that is told to stop takes long to save; half of the times it is killed before it has.

        One of them is suspended now, and resumed while it still saves.
        """
        stubbed = self._cluster.control_plane.stubbed_pods
        assert stubbed is not None
        in_time = self._chance.random() < 0.5
        stubbed.save_seconds = GRACE_SECONDS * (0.9 if in_time else 2.0)
        for _ in range(TRIES):
            gang = await self.running_gang()
            if gang and await self._suspended_and_resumed(*gang, in_time=in_time):
                self.done["gangs that saved to slow storage"] += 1
                return

    async def _suspended_and_resumed(self, job: Resource, pods: list[Resource], *, in_time: bool) -> bool:
        """False: it had come to its end, or the operator was away."""
        name = job["metadata"]["name"]
        await self._user.edit(name, suspend=True)
        seen = await self._ended(name, job["status"]["attempt"])
        if seen and in_time:
            await self.report(job, pods[0], self._chance.randint(2, 100))
        await self._user.edit(name, suspend=False)
        return seen

    async def save_a_checkpoint(self, late_seconds: float) -> None:
        """Rank 0 tells the receiver; then what it said before arrives late, and once more when that was written."""
        if gang := await self.running_gang():
            job, pods = gang
            await self.report(job, pods[0], self._chance.randint(2, 100))
            step = self._steps[job["metadata"]["name"]]
            for behind, pause in ((step - 1, late_seconds), (1, 0.0)):
                await self._post(job, pods[0], behind)
                await asyncio.sleep(pause)

    async def report(self, job: Resource, pod: Resource, further: int) -> None:
        """A checkpoint so many steps after the last one."""
        name = job["metadata"]["name"]
        self._steps[name] += further
        await self._post(job, pod, self._steps[name])

    async def _post(self, job: Resource, pod: Resource, step: int) -> None:
        """Again and again while nobody answers, as a trainer does; lost in the end."""
        deadline = time.monotonic() + UNANSWERED_SECONDS
        while not (code := await report(self._user.api, self._replicas.all[0].progress_url, job, pod, step)):
            if time.monotonic() > deadline:
                break
            await asyncio.sleep(0.2)
        self.done[f"reports answered {code}"] += 1

    def misjudged(self, jobs: list[Resource]) -> list[str]:
        """Attempts to which one thing alone was done, and that are said to have ended by another.

        One that was suspended, or had succeeded, before anybody noticed may say so.
        """
        return [
            f"{job['metadata']['name']}, attempt {one['number']}: {one['cause']} ({one['reason']}), not {done[0]}"
            for job in jobs
            for one in job["status"].get("attempts") or ()
            if len(done := self._causes.get((job["metadata"]["name"], one["number"]), ())) == 1
            and one.get("endedAt")
            and one["cause"] not in (done[0], *SAME.get(done[0], ()), Cause.SUCCEEDED, Cause.SUSPENDED)
        ]

    async def _end(self, end: End) -> None:
        if pod := await self.running_pod():
            await self._end_pod(pod, end.exit_code, last_words(end.outcome, end.words), end.cause)

    async def _end_pod(self, pod: Resource, exit_code: int, words: str, cause: Cause) -> None:
        """Nothing, if it has ended or changed meanwhile."""
        try:
            await self._user.end_pod(pod, exit_code, words, only_if_unchanged=True)
        except ApiError as error:
            if not (error.conflict or error.not_found):
                raise
        else:
            self._note(pod, cause)

    def _note(self, pod: Resource, cause: Cause) -> None:
        labels = pod["metadata"]["labels"]
        self.done[f"pods that ended by {cause}"] += 1
        self._causes[labels[LABEL_JOB], int(labels[LABEL_ATTEMPT])].append(cause)

    async def running_pod(self) -> Resource | None:
        """Of any gang; one that is about to run is waited for."""
        return self._any(await self._soon(self._running_pods))

    async def running_gang(self) -> tuple[Resource, list[Resource]] | None:
        """A job that runs, and its pods."""
        return self._any(await self._soon(self._running_gangs))

    async def _soon(self, look: Callable[[], Awaitable[list[T]]]) -> list[T]:
        deadline = time.monotonic() + SOON_SECONDS
        while not (found := await look()) and time.monotonic() < deadline and await self._unfinished():
            await asyncio.sleep(0.1)
        return found

    def _any(self, found: list[T]) -> T | None:
        return self._chance.choice(found) if found else None

    async def _running_pods(self) -> list[Resource]:
        selector = f"{LABEL_JOB},{LABEL_ATTEMPT}"
        items = (await self._user.api.list(PODS, NAMESPACE, label_selector=selector, limit=0))["items"]
        return [pod for pod in items if _runs(pod)]

    async def _running_gangs(self) -> list[tuple[Resource, list[Resource]]]:
        jobs = [one for one in await self._jobs() if (one.get("status") or {}).get("phase") == "Running"]
        gangs = [(job, await self._user.pods(job["status"]["attempt"], job["metadata"]["name"])) for job in jobs]
        return [(job, pods) for job, pods in gangs if pods and all(map(_runs, pods))]

    async def _unfinished(self) -> bool:
        return not all((one.get("status") or {}).get("completionTime") for one in await self._jobs())

    async def _jobs(self) -> list[Resource]:
        items: list[Resource] = (await self._user.api.list(FINE_TUNE_JOBS, NAMESPACE, limit=0))["items"]
        return items

    async def _ended(self, name: str, attempt: int) -> bool:
        """Whether the operator has ended the attempt for its suspension; not when it, or the job, has ended before."""
        deadline = time.monotonic() + ENDED_SECONDS
        while time.monotonic() < deadline:
            status = (await self._user.job(name))["status"]
            record = next((one for one in status["attempts"] if one["number"] == attempt), {})
            if record.get("endedAt") or status.get("completionTime"):
                return bool(record.get("cause") == Cause.SUSPENDED)
            await asyncio.sleep(0.05)
        return False


def _runs(pod: Resource) -> bool:
    return pod["status"].get("phase") == "Running" and not pod["metadata"].get("deletionTimestamp")
