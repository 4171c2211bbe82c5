"""A node that vanishes without a word, on a cluster that is slow in the ways of real ones."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from e2e.conftest import prepare
from e2e.test_interruption import has_checkpoint
from e2e.user import Body, User, condition, fine_tune_job, finished, is_true
from exhaustive import exhaustive
from finetune_local.cluster import Cluster
from finetune_local.controllers.nodes import VirtualNode
from finetune_local.knobs import Knobs
from finetune_operator.cli.local import running_operator
from finetune_operator.cli.local_installation import install
from finetune_operator.kinds import FINE_TUNE_JOBS
from finetune_operator.kube.resources import JOBS, NODES, PODS

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(1200)]

SLOW = Knobs(
    dns_delay=1.0,
    schedule_delay=0.2,
    pod_stagger=1.0,
    heartbeat_period=0.5,
    node_monitor_grace=10.0,
)
LEAVE_AT_ONCE = {
    "key": "node.kubernetes.io/unreachable",
    "operator": "Exists",
    "effect": "NoExecute",
    "tolerationSeconds": 1,
}
ROOM_FOR_ONE = {"cpu": "1", "memory": "8Gi"}
TRAINING = {"maxSteps": 100, "batchSize": 24, "learningRate": 5e-3, "logEverySteps": 5}


@pytest_asyncio.fixture(loop_scope="session")
async def cluster(request: pytest.FixtureRequest) -> AsyncIterator[Cluster]:
    """Nodes, each with room for one pod of a gang of two, and the operator."""
    nodes = [VirtualNode(name, ROOM_FOR_ONE) for name in request.param]
    async with Cluster(knobs=SLOW, nodes=nodes) as cluster, running_operator(await install(cluster)):
        yield cluster


async def lose_a_node(cluster: Cluster, **changes: Any) -> tuple[User, str]:
    """Who applied a job, and the node that vanished under it."""
    user = User(cluster.api, "default", "any")  # type: ignore[arg-type]
    await prepare(user)
    one_each = {"requests": {"cpu": "1"}, "limits": {"cpu": "1"}}
    changes = {"training": TRAINING, "resources": one_each, "failurePolicy": {"backoffSeconds": 0}} | changes
    await user.apply(fine_tune_job("gone", podTemplate={"spec": {"tolerations": [LEAVE_AT_ONCE]}}, **changes))
    await user.until(FINE_TUNE_JOBS, "gone", has_checkpoint, seconds=500)
    pods = await user.list(PODS, "finetune-operator.io/job=gone,batch.kubernetes.io/job-completion-index=1")
    lost = pods[0]["spec"]["nodeName"]
    await cluster.vanish_node(lost)
    await user.until(PODS, pods[0]["metadata"]["name"], lambda pod: "deletionTimestamp" in pod["metadata"])
    await cluster.api.delete(NODES, lost)
    return user, lost


async def outcome(user: User) -> Body:
    """The status once the job has succeeded."""
    job = await user.until(FINE_TUNE_JOBS, "gone", finished, seconds=500)
    assert condition(job, "Succeeded").get("status") == "True", job["status"]
    return dict(job["status"])


@pytest.mark.parametrize("engine", ["Torchrun", pytest.param("Ray", marks=exhaustive)])
@pytest.mark.parametrize("cluster", ["ab"], indirect=True)
async def test_an_elastic_gang_goes_on_with_the_nodes_that_are_left_and_grows_again(
    cluster: Cluster, engine: str
) -> None:
    elastic = {"minNodes": 1, "waitSeconds": 3, "growSeconds": 1}
    distributed = {"engine": engine, "nodes": 2, "elastic": elastic}
    user, lost = await lose_a_node(cluster, distributed=distributed, training=TRAINING | {"maxSteps": 400})
    await user.until(FINE_TUNE_JOBS, "gone", is_true("Growing"), seconds=500)
    await cluster.return_node(lost)
    status = await outcome(user)
    first, second, third, fourth = status["attempts"]
    assert (first["cause"], first["node"], first["nodes"]) == ("NodeLost", lost, 2)
    assert (second["cause"], second["nodes"]) == ("Resized", 2)
    assert (third["cause"], third["nodes"]) == ("Resized", 1)
    assert (fourth["cause"], fourth["nodes"], status["nodes"]) == ("Succeeded", 2, 2)
    assert fourth["resumedFromStep"] >= third["resumedFromStep"] >= 10
    assert status["progress"]["text"] == "400/400"
    assert status["metrics"]["f1"] >= 0.8
    assert status["restarts"] == {"total": 1, "byCause": {"NodeLost": 1}}
    await user.until_gone(JOBS, "finetune-operator.io/attempt=0")


@exhaustive
@pytest.mark.parametrize("cluster", ["abc"], indirect=True)
async def test_the_gang_goes_on_elsewhere_from_its_newest_checkpoint(cluster: Cluster) -> None:
    user, lost = await lose_a_node(cluster)
    status = await outcome(user)
    first, second = status["attempts"]
    assert (first["cause"], first["node"]) == ("NodeLost", lost)
    assert second["resumedFromStep"] >= 10
    assert status["restarts"] == {"total": 1, "byCause": {"NodeLost": 1}}
