"""What an operator that runs beside its cluster gets of the chart: CRDs, its account, its rights, its webhooks.

The manifests are rendered from the chart (`make manifests`), so the operator of local mode may do what an installed one
may do, and nothing else.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from finetune_api.crds import custom_resource_definitions
from finetune_operator.kube.client import KubeApi
from finetune_operator.kube.resources import (
    CUSTOM_RESOURCE_DEFINITIONS,
    MUTATING_WEBHOOK_CONFIGURATIONS,
    NAMESPACES,
    SECRETS,
    SERVICE_ACCOUNTS,
    VALIDATING_WEBHOOK_CONFIGURATIONS,
    Kind,
)

if TYPE_CHECKING:
    from finetune_local.cluster import Cluster

Resource = dict[str, Any]
MANIFESTS = Path(__file__).with_name("installed")
WATCHED = "watched-namespace"
"""Stands in the manifests for each of the chosen namespaces."""
NAMESPACE, ACCOUNT = "finetune-system", "finetune-operator"
CERTIFICATE = "finetune-operator-tls"
"""The Secret in which the operator keeps its own."""
MANAGER = "finetune-operator-local"
RBAC = "rbac.authorization.k8s.io/v1"
RIGHTS: dict[str, Kind] = {
    kind.kind: kind
    for kind in (
        NAMESPACES,
        SECRETS,
        SERVICE_ACCOUNTS,
        Kind(RBAC, "ClusterRole", "clusterroles", namespaced=False),
        Kind(RBAC, "ClusterRoleBinding", "clusterrolebindings", namespaced=False),
        Kind(RBAC, "Role", "roles"),
        Kind(RBAC, "RoleBinding", "rolebindings"),
    )
}
WEBHOOKS: dict[str, Kind] = {
    kind.kind: kind for kind in (VALIDATING_WEBHOOK_CONFIGURATIONS, MUTATING_WEBHOOK_CONFIGURATIONS)
}


async def install(cluster: "Cluster", namespaces: Sequence[str] = ()) -> Path:
    """All but the webhooks; returns the kubeconfig of the operator's account."""
    for definition in custom_resource_definitions():
        await cluster.api.apply(CUSTOM_RESOURCE_DEFINITIONS, definition, field_manager=MANAGER)
    await install_rights(cluster.api, namespaces)
    kubeconfig = cluster.folder / "operator.kubeconfig"
    token = await cluster.server.account_token(NAMESPACE, ACCOUNT)
    return cluster.server.write_kubeconfig(kubeconfig, token=token)


async def install_rights(api: KubeApi, namespaces: Sequence[str] = ()) -> None:
    """Those of an operator that works in all namespaces, or in these, which are made."""
    for name in namespaces:
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        await api.apply(NAMESPACES, namespace, field_manager=MANAGER)
    for body in manifests(RIGHTS, namespaces):
        await api.apply(RIGHTS[body["kind"]], body, field_manager=MANAGER)


def manifests(kinds: dict[str, Kind], namespaces: Sequence[str] = ()) -> list[Resource]:
    """What the chart has of these kinds."""
    if not namespaces:
        return [body for body in _rendered("cluster-wide.yaml") if body["kind"] in kinds]
    return [
        body | {"metadata": body["metadata"] | place}
        for body in _rendered("namespaced.yaml")
        if body["kind"] in kinds
        for place in _places(body, namespaces)
    ]


def _rendered(file: str) -> list[Resource]:
    return list(yaml.safe_load_all((MANIFESTS / file).read_text(encoding="utf-8")))


def _places(body: Resource, namespaces: Sequence[str]) -> list[dict[str, str]]:
    """Once for each namespace, or as it stands."""
    if body["metadata"].get("namespace") != WATCHED:
        return [{}]
    return [{"namespace": name} for name in namespaces]
