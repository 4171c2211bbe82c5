"""The informers of ModelVersions and ModelDeployments, which several controllers share, and their indices."""

import asyncio
from collections.abc import Mapping
from typing import Any

from finetune_api.names import LABEL_DEPLOYMENT
from finetune_operator.kinds import MODEL_DEPLOYMENTS, MODEL_VERSIONS
from finetune_operator.kube.client import KubeApi
from finetune_operator.kube.index import Indexer, Ordered
from finetune_operator.kube.informer import Informer
from finetune_operator.kube.resources import Kind
from finetune_operator.plan.model_deployment_objects import selector_labels
from finetune_operator.plan.places import MODEL_VERSION

Resource = dict[str, Any]


PAGE = 100
"""Objects in a page of a list, see `Informer`."""


def model_version_cache(api: KubeApi, namespace: str | None, paging: asyncio.Lock | None = None) -> Informer:
    """By the job that made it and by its model; approved ones by age; by model, those that stand on another version."""
    indexers: dict[str, Indexer] = {
        "job": _job,
        "model": model_of,
        "approved": Ordered(_approved, _created),
        "base": Ordered(base_version, lambda version: model_of(version)[0]),
    }
    return _packed(api, MODEL_VERSIONS, namespace, indexers, paging)


def model_deployment_cache(api: KubeApi, namespace: str | None, paging: asyncio.Lock | None = None) -> Informer:
    """By the model that it serves, and the label that selects its pods."""
    indexers = {"model": model_of, "label": _pod_label}
    return _packed(api, MODEL_DEPLOYMENTS, namespace, indexers, paging)


def _packed(
    api: KubeApi, kind: Kind, namespace: str | None, indexers: Mapping[str, Indexer], paging: asyncio.Lock | None
) -> Informer:
    return Informer(api, kind, namespace=namespace, packed=True, page_size=PAGE, paging=paging, indexers=indexers)


def model_of(item: Resource) -> list[str]:
    """Namespace and `spec.modelName`."""
    return [f"{item['metadata']['namespace']}/{item['spec'].get('modelName')}"]


def base_version(version: Resource) -> list[str]:
    """Namespace and name of the version whose model an adapter needs, when its base model is one."""
    source = str((version["spec"].get("baseModel") or {}).get("source", ""))
    if not source.startswith(MODEL_VERSION):
        return []
    return [f"{version['metadata']['namespace']}/{source.removeprefix(MODEL_VERSION)}"]


def _approved(version: Resource) -> list[str]:
    """The model of a version that may be deployed."""
    deleted = version["metadata"].get("deletionTimestamp")
    return model_of(version) if (version.get("status") or {}).get("approved") and not deleted else []


def _created(version: Resource) -> str:
    """RFC 3339 in UTC sorts as text."""
    return str(version["metadata"].get("creationTimestamp"))


def _job(version: Resource) -> list[str]:
    uid = (version["spec"].get("job") or {}).get("uid")
    return [uid] if uid else []


def _pod_label(deployment: Resource) -> list[str]:
    metadata = deployment["metadata"]
    return [f"{metadata['namespace']}/{selector_labels(metadata['name'])[LABEL_DEPLOYMENT]}"]
