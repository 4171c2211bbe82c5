"""Everything at once, at random; the invariants of the ledger hold at every write, and all comes to an end."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from chaos.belongings import RULES
from chaos.conftest import Size
from chaos.disturbances import Disturbances
from chaos.ledger import Ledger
from chaos.pod_faults import GRACE_SECONDS
from chaos.replicas import Replicas
from controllers.cluster_user import NAMESPACE, ClusterUser
from controllers.pod_groups import DEFINITION
from finetune_local.cluster import Cluster
from finetune_operator.kinds import FINE_TUNE_JOBS, MODEL_DEPLOYMENTS, TRAINING_RUNTIMES
from finetune_operator.kube.resources import CUSTOM_RESOURCE_DEFINITIONS

Resource = dict[str, Any]
PATIENCE_SECONDS, PAUSE_SECONDS = 120.0, 0.5
DISTURBANCES_A_ROUND = 5
OPTIONS = ("--no-leader-elect", "--progress-url=http://operator.invalid", "--no-progress-tls")
"""With a receiver; the simulated pods do not look for it, the disturbances report in their place."""
BUDGET = {"user": 1, "outOfMemory": 2, "infrastructure": 3, "preemption": 5}
GANGS = "gangs"
"""The runtime whose gangs have a PodGroup."""
SHAPES: tuple[Resource, ...] = (
    {},
    {"distributed": {"nodes": 1}},
    {"runtimeRef": {"name": GANGS, "kind": "TrainingRuntime"}},
)
POLICIES: tuple[Resource, ...] = ({"maxRestarts": BUDGET, "backoffSeconds": 0.2}, {"backoffSeconds": 1.5})
"""One with a budget for the user's own errors, and the default, with which they fail at once. The back-off of one is
short, that of the other so long that much can happen meanwhile."""


async def apply_jobs(user: ClusterUser, numbers: range) -> None:
    for number in numbers:
        await user.apply(
            f"job-{number:03}",
            publish={"modelName": "tickets"},
            deploy={"name": "tickets"},
            podTemplate={"spec": {"terminationGracePeriodSeconds": GRACE_SECONDS}},
            failurePolicy=POLICIES[number % len(POLICIES)],
            **SHAPES[number % len(SHAPES)],
        )


async def serve_pod_groups(user: ClusterUser) -> None:
    await user.api.create(CUSTOM_RESOURCE_DEFINITIONS, DEFINITION)
    runtime = {
        "apiVersion": TRAINING_RUNTIMES.api_version,
        "kind": "TrainingRuntime",
        "metadata": {"name": GANGS, "namespace": NAMESPACE},
        "spec": {"scheduler": "Native"},
    }
    await user.api.create(TRAINING_RUNTIMES, runtime, NAMESPACE)


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
    await serve_pod_groups(user)
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
        jobs = await disturbances.jobs()
        causes = Counter(one["cause"] for job in jobs for one in job["status"]["attempts"])
        print(f"chaos: {dict(disturbances.done)}, {dict(disturbances.pods.done)}")
        print(f"chaos: {ledger.seen['reports']} reports written, {len(jobs)} jobs left, attempts {dict(causes)}")
        for job in jobs:
            await user.api.delete(FINE_TUNE_JOBS, job["metadata"]["name"], NAMESPACE)
        for deployment in (await user.api.list(MODEL_DEPLOYMENTS, NAMESPACE))["items"]:
            await user.api.delete(MODEL_DEPLOYMENTS, deployment["metadata"]["name"], NAMESPACE)

        async def nothing_left() -> bool:
            return not ledger.left()

        await until(nothing_left, lambda: f"left behind: {ledger.left()}", lambda: len(ledger.left()))
    assert ledger.violations == []
    assert {job["status"]["phase"] for job in jobs} <= {"Succeeded", "Failed"}
    assert disturbances.pods.misjudged(jobs) == []
    assert disturbances.pods.done["gangs that saved to slow storage"]
    assert ledger.seen["finetunejobs"] > size.jobs * 4, "the ledger saw the writes"
    assert {plural for _, plural in RULES} - ledger.seen.keys() == {"leases"}, (
        "and every kind; one replica elects nobody"
    )
