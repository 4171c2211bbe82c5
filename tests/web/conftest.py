from collections.abc import AsyncIterator

import pytest

from controllers.cluster_user import NAMESPACE, ClusterUser
from controllers.operator_under_test import OperatorUnderTest
from finetune_api.crds import custom_resource_definitions
from finetune_local.cluster import Cluster
from finetune_operator.kube.resources import CUSTOM_RESOURCE_DEFINITIONS, NAMESPACES
from web.receiver_under_test import ReceiverUnderTest


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
async def receiver(operator: OperatorUnderTest) -> AsyncIterator[ReceiverUnderTest]:
    async with ReceiverUnderTest(operator) as receiver:
        yield receiver
