"""Everything at once, at random; the invariants of the ledger hold at every write, and all comes to an end."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from chaos.conftest import Size
from chaos.disturbances import Disturbances
from chaos.ledger import Ledger
from chaos.replicas import Replicas
from controllers.cluster_user import NAMESPACE, ClusterUser
from finetune_local.cluster import Cluster
from finetune_operator.kinds import FINE_TUNE_JOBS

PATIENCE_SECONDS, PAUSE_SECONDS = 120.0, 0.5
DISTURBANCES_A_ROUND = 5
OPTIONS = ("--no-leader-elect", "--progress-url=http://operator.invalid", "--no-progress-tls")
"""With a receiver; the simulated pods do not look for it, the disturbances report in their place."""
BUDGET = {"user": 1, "outOfMemory": 1, "infrastructure": 3, "preemption": 5}


async def apply_jobs(user: ClusterUser, numbers: range) -> None:
    for number in numbers:
        await user.apply(
            f"job-{number:03}",
            publish={"modelName": "tickets"},
            failurePolicy={"backoffSeconds": 0.2, "maxRestarts": BUDGET},
        )


async def until(
    condition: Callable[[], Awaitable[bool]], what: Callable[[], str], moves: Callable[[], int] = lambda: 0
) -> None:
    """As long as something moves, however slowly."""
    deadline, last = time.monotonic() + PATIENCE_SECONDS, moves()
    while not await condition():
        if moves() != last:
            deadline, last = time.monotonic() + PATIENCE_SECONDS, moves()
        assert time.monotonic() < deadline, what()
        await asyncio.sleep(0.2)


async def test_nothing_forbidden_happens_whatever_goes_wrong(
    cluster: Cluster, user: ClusterUser, size: Size, chance: random.Random, tmp_path: Path
) -> None:
    ledger = Ledger(cluster.server.cluster.store)
    async with Replicas(cluster, tmp_path, OPTIONS, size=1) as replicas:
        disturbances = Disturbances(cluster, user, replicas, chance)
        await until(replicas.all_ready, replicas.logs)
        turns = size.rounds * DISTURBANCES_A_ROUND
        for turn in range(turns):  # jobs come all along, so that there are running ones to disturb
            await apply_jobs(user, range(size.jobs * turn // turns, size.jobs * (turn + 1) // turns))
            await disturbances.next()
            await asyncio.sleep(chance.expovariate(1 / PAUSE_SECONDS))

        async def all_finished() -> bool:
            await disturbances.resume_all()
            return all((job.get("status") or {}).get("completionTime") for job in await disturbances.jobs())

        def moves() -> int:
            return ledger.seen["finetunejobs"]

        await until(all_finished, lambda: f"jobs do not come to an end\n{replicas.logs()}", moves)
        phases = {job["metadata"]["name"]: job["status"]["phase"] for job in await disturbances.jobs()}
        told = ledger.seen["reports"]
        print(f"chaos: {dict(disturbances.done)}, {told} reports written")
        print(f"chaos: {len(phases)} jobs left: {sorted(phases.values())}")
        for name in phases:
            await user.api.delete(FINE_TUNE_JOBS, name, NAMESPACE)

        async def nothing_left() -> bool:
            return not ledger.left()

        await until(nothing_left, lambda: f"left behind: {ledger.left()}", lambda: len(ledger.left()))
    assert ledger.violations == []
    assert set(phases.values()) <= {"Succeeded", "Failed"}
    assert ledger.seen["finetunejobs"] > size.jobs * 4, "the ledger saw the writes"
