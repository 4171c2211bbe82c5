"""What the controller asks the API server for when pods don't say themselves what befell them."""

import pytest

from controllers.cluster_user import NAMESPACE
from finetune_local import timestamps
from finetune_local.cluster import Cluster
from finetune_operator.controllers.evidence import EvidenceReader
from finetune_operator.kube.errors import ApiError
from finetune_operator.kube.resources import EVENTS, NODES
from plan.builders import failed_pod, indexed_job, job, pod, world


def event(name: str, reason: str, note: str, moment: str) -> dict:
    return {
        "apiVersion": EVENTS.api_version,
        "kind": "Event",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "eventTime": moment,
        "reportingController": "kubelet",
        "reportingInstance": "node-1",
        "action": "Starting",
        "reason": reason,
        "note": note,
        "type": "Warning",
        "regarding": {"kind": "Pod", "namespace": NAMESPACE, "name": pod(1)["metadata"]["name"]},
    }


def started() -> dict:
    return {**job(), "status": {"attempt": 1}}


async def test_the_events_of_a_pod_that_does_not_start_the_newest_last(cluster: Cluster) -> None:
    await cluster.api.create(EVENTS, event("b", "FailedMount", "again", timestamps.micro_now()), NAMESPACE)
    await cluster.api.create(EVENTS, event("a", "Scheduled", "first", "2026-01-01T00:00:00.000000Z"), NAMESPACE)
    seen = world(started(), [indexed_job()], [pod(0), pod(1, phase="Pending")], after=60)
    evidence = (await EvidenceReader(cluster.api).with_evidence(seen)).evidence
    assert [(one.reason, one.note) for one in evidence.events] == [("Scheduled", "first"), ("FailedMount", "again")]


async def test_the_nodes_of_a_gang_that_failed(cluster: Cluster) -> None:
    silent = {"type": "Ready", "status": "Unknown", "message": "Kubelet stopped posting node status."}
    await cluster.api.create(NODES, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-1"}})
    node = await cluster.api.get(NODES, "node-1")
    await cluster.api.replace_status(NODES, {**node, "status": {"conditions": [silent]}})
    seen = world(started(), [indexed_job()], [failed_pod(0, 1, "NCCL error"), pod(1)])
    evidence = (await EvidenceReader(cluster.api).with_evidence(seen)).evidence
    assert evidence.trouble_of("node-0") == "node node-0 does not exist any more"
    assert evidence.trouble_of("node-1") == "node node-1 is not ready: Kubelet stopped posting node status."


class Forbidding:
    """An API server that grants nothing; counts what it was asked."""

    def __init__(self) -> None:
        self.asked = 0

    async def get(self, *_: object, **__: object) -> dict:
        self.asked += 1
        raise ApiError(403, "Forbidden", "no rights")

    list = get


@pytest.fixture
def forbidding() -> Forbidding:
    return Forbidding()


async def test_without_the_rights_nothing_is_known_and_nothing_breaks(forbidding: Forbidding) -> None:
    reader = EvidenceReader(forbidding)  # type: ignore[arg-type]
    seen = world(started(), [indexed_job()], [failed_pod(0, 1, "x"), pod(1)])
    for _ in range(3):
        assert (await reader.with_evidence(seen)).evidence.nodes == {}
    assert forbidding.asked == 3  # two nodes and the events of one pod, once


async def test_a_gang_that_is_well_costs_no_request(forbidding: Forbidding) -> None:
    seen = world(started(), [indexed_job()], [pod(0), pod(1)], after=600)
    assert (await EvidenceReader(forbidding).with_evidence(seen)) is seen  # type: ignore[arg-type]
    assert forbidding.asked == 0
