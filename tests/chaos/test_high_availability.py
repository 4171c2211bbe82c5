"""Two replicas; whatever befalls the leader, one of them writes at a time and no job notices.

`make test` runs a small one with a short lease, `make chaos` a big one with the lease as it is shipped.
"""

import asyncio
import random
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chaos.conftest import Size
from chaos.pace import Stopwatch
from chaos.replicas import NAMESPACE as REPLICAS
from chaos.replicas import Replica, Replicas
from chaos.writers import WriterAudit
from controllers.cluster_user import NAMESPACE, ClusterUser
from finetune_local.cluster import Cluster
from finetune_operator.kinds import FINE_TUNE_JOBS

CRASH_SECONDS, CLEAN_SECONDS = 15.0, 1.0
"""Until another leads: after a crash, a freeze or a cut; after a clean exit."""
PATIENCE_SECONDS, PAUSE_SECONDS = 300.0, 1.0
"""Until the test gives up, on a machine that has much else to do; until the next job is applied, on average."""


@dataclass
class Takeover:
    """How long nobody led, and for how long of it the processes concerned waited for a processor of this machine."""

    what: str
    seconds: float
    waited: float

    @property
    def late(self) -> bool:
        limit = CLEAN_SECONDS if self.what == "SIGTERM" else CRASH_SECONDS
        return self.seconds - self.waited > limit


class Drama:
    """What befalls the leaders."""

    def __init__(self, replicas: Replicas, audit: WriterAudit) -> None:
        self._replicas = replicas
        self._audit = audit
        self.takeovers: list[Takeover] = []

    async def leader(self) -> Replica:
        """The replica that holds the lease, once the other one stands by with full caches."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            if (leader := self._replicas.of_user(self._audit.holder)) and await self._replicas.all_ready():
                return leader
            await asyncio.sleep(0.1)
        raise AssertionError(f"no leader and standby within {PATIENCE_SECONDS:g} s\n{self._replicas.logs()}")

    async def crash(self) -> None:
        """SIGKILL."""
        await self._taken_over("SIGKILL", lambda leader: leader.signal(signal.SIGKILL))

    async def leave(self) -> None:
        """SIGTERM; counted from the end of the process."""
        leader, epochs = await self.leader(), len(self._audit.epochs)
        ended = asyncio.create_task(self._ended(leader))
        leader.signal(signal.SIGTERM)
        code, at = await ended
        stopwatch = self._stopwatch(leader)
        assert code == 0, self._replicas.logs()
        epoch = await self._audit.next_epoch(epochs, PATIENCE_SECONDS)
        self.takeovers.append(Takeover("SIGTERM", epoch.began - at, stopwatch.waited()))

    async def freeze(self) -> None:
        """It thaws when another leads, and must not write one more time."""
        leader = await self._taken_over("SIGSTOP", lambda leader: leader.signal(signal.SIGSTOP))
        ended = asyncio.create_task(self._ended(leader))
        leader.signal(signal.SIGCONT)
        code, _ = await ended
        assert code != 0, "it ends with an error, so that the kubelet starts it again"

    async def cut_off(self) -> None:
        """Nothing goes through any more, in either direction, until another leads."""
        leader = await self._taken_over("network cut", lambda leader: leader.wire.lose())
        leader.wire.mend()

    async def _taken_over(self, what: str, strike: Callable[[Replica], None]) -> Replica:
        leader, epochs = await self.leader(), len(self._audit.epochs)
        at, stopwatch = time.monotonic(), self._stopwatch(leader)
        strike(leader)
        epoch = await self._audit.next_epoch(epochs, PATIENCE_SECONDS)
        self.takeovers.append(Takeover(what, epoch.began - at, stopwatch.waited()))
        return leader

    def _stopwatch(self, leader: Replica) -> Stopwatch:
        """Of the standby, and of this process, in which the API server is."""
        return Stopwatch(one.pid for one in self._replicas.all if one is not leader and one.pid)

    async def _ended(self, replica: Replica) -> tuple[int, float]:
        process = replica.process
        assert process is not None
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await process.wait(), time.monotonic()


Ends = list[Callable[[], Awaitable[None]]]


def every_end(drama: Drama, chance: random.Random, rounds: int) -> Ends:
    """Every kind once, in any order, and again until the rounds are over."""
    ends: Ends = []
    while len(ends) < rounds:
        ends += chance.sample([drama.crash, drama.leave, drama.freeze, drama.cut_off], 4)
    return ends[:rounds]


async def play(ends: Ends, chance: random.Random) -> None:
    for end in ends:
        await end()
        await asyncio.sleep(chance.uniform(0, 2))


async def feed(user: ClusterUser, jobs: int, over: asyncio.Task[None], chance: random.Random) -> None:
    """Applies jobs all along, and what is left of them when the play is over."""
    for number in range(jobs):
        await user.apply(f"job-{number:03}", publish={"modelName": "tickets"})
        if not over.done():
            await asyncio.wait([over], timeout=chance.expovariate(1 / PAUSE_SECONDS))


async def until_all_finished(user: ClusterUser, jobs: int, logs: Callable[[], str]) -> list[dict[str, Any]]:
    """As long as jobs go on, however slowly."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    items: list[dict[str, Any]] = []
    while time.monotonic() < deadline:
        before = {one["metadata"]["resourceVersion"] for one in items}
        items = (await user.api.list(FINE_TUNE_JOBS, NAMESPACE, limit=0))["items"]
        if {one["metadata"]["resourceVersion"] for one in items} != before:
            deadline = time.monotonic() + PATIENCE_SECONDS
        if len(items) == jobs and all((one.get("status") or {}).get("completionTime") for one in items):
            return items
        await asyncio.sleep(0.2)
    unfinished = [one for one in items if not (one.get("status") or {}).get("completionTime")]
    raise AssertionError(f"{len(unfinished)} of {jobs} jobs did not finish, e.g. {unfinished[:1]}\n{logs()}")


async def test_one_replica_writes_at_a_time_and_no_job_notices(
    cluster: Cluster, user: ClusterUser, size: Size, chance: random.Random, tmp_path: Path
) -> None:
    audit = WriterAudit(cluster, f"system:serviceaccount:{REPLICAS}:")
    async with Replicas(cluster, tmp_path, size.lease_options) as replicas:
        drama = Drama(replicas, audit)
        await drama.leader()
        playing = asyncio.create_task(play(every_end(drama, chance, size.rounds), chance))
        await feed(user, size.jobs, playing, chance)
        await playing
        jobs = await until_all_finished(user, size.jobs, replicas.logs)
        print_report(drama, audit)
    assert audit.violations == []
    assert sum(epoch.writes for epoch in audit.epochs) >= 6 * size.jobs, "the audit saw the writes"
    assert len(audit.epochs) > size.rounds
    for job in jobs:
        assert (job["status"]["phase"], job["status"]["attempt"]) == ("Succeeded", 1), job["status"]
    late = [takeover for takeover in drama.takeovers if takeover.late]
    assert not (size.shipped_lease and late), late


def print_report(drama: Drama, audit: WriterAudit) -> None:
    for takeover in drama.takeovers:
        waited = f"{takeover.waited:.2f} s of them waiting for a processor"
        print(f"chaos: {takeover.what}: another leads after {takeover.seconds:.2f} s, {waited}")
    print(f"chaos: {len(audit.epochs)} epochs, {sum(e.writes for e in audit.epochs)} writes by their holders")


async def test_the_lease_as_shipped_changes_hands_in_time(
    cluster: Cluster, user: ClusterUser, chance: random.Random, tmp_path: Path
) -> None:
    """One clean exit and one crash, on any machine: in terms of the lease, less what was waited for a processor.

    Where nobody gave the lease back, or looked at it in time, another would lead after one whole lease, or much later.
    """
    jobs = 4
    audit = WriterAudit(cluster, f"system:serviceaccount:{REPLICAS}:")
    async with Replicas(cluster, tmp_path, ()) as replicas:
        drama = Drama(replicas, audit)
        await drama.leader()
        ends = asyncio.create_task(play([drama.leave, drama.crash], chance))
        await feed(user, jobs, ends, chance)
        await ends
        finished = await until_all_finished(user, jobs, replicas.logs)
        lease = audit.lease()["leaseDurationSeconds"]
        print_report(drama, audit)
    assert audit.violations == []
    assert [epoch.number for epoch in audit.epochs] == [0, 1, 2]
    assert sum(epoch.writes for epoch in audit.epochs) >= 6 * jobs, "the audit saw the writes"
    assert {(job["status"]["phase"], job["status"]["attempt"]) for job in finished} == {("Succeeded", 1)}
    left, crashed = (one.seconds - one.waited for one in drama.takeovers)
    assert left < lease / 4, "it was given back"
    assert crashed <= 1.25 * lease == CRASH_SECONDS, "a standby looks often"


async def test_the_audit_finds_a_second_writer(cluster: Cluster, user: ClusterUser, tmp_path: Path) -> None:
    """Two replicas that elect nobody: the proof above could fail."""
    audit = WriterAudit(cluster, f"system:serviceaccount:{REPLICAS}:")
    async with Replicas(cluster, tmp_path, ["--no-leader-elect"], size=1) as replicas:
        await user.apply("job-000")
        await until_all_finished(user, 1, replicas.logs)
    assert audit.violations
