from collections.abc import AsyncIterator
from typing import Any

import pytest

from controllers.cluster_user import NAMESPACE, ClusterUser
from controllers.operator_under_test import OperatorUnderTest
from finetune_api.crds import custom_resource_definitions
from finetune_local.cluster import Cluster
from finetune_operator.kube.packing import Packing
from finetune_operator.kube.resources import CUSTOM_RESOURCE_DEFINITIONS, NAMESPACES


class Decodings:
    """Objects that were unpacked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        unpack = Packing.unpack

        def counting(packing: Packing, packed: bytes) -> dict[str, Any]:
            self.count += 1
            return unpack(packing, packed)

        monkeypatch.setattr(Packing, "unpack", counting)


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    """Kubernetes with the custom resources; pods run without processes until a test ends them."""
    async with Cluster(pods="stubbed") as cluster:
        for definition in custom_resource_definitions():
            await cluster.api.create(CUSTOM_RESOURCE_DEFINITIONS, definition)
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
        await cluster.api.create(NAMESPACES, namespace)
        yield cluster


@pytest.fixture
def user(cluster: Cluster) -> ClusterUser:
    return ClusterUser(cluster.api)


@pytest.fixture
async def operator(cluster: Cluster) -> AsyncIterator[OperatorUnderTest]:
    async with OperatorUnderTest(cluster.kubeconfig) as operator:
        yield operator


@pytest.fixture
def decodings(monkeypatch: pytest.MonkeyPatch) -> Decodings:
    return Decodings(monkeypatch)
