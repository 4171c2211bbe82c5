"""The informers that the ModelDeployment controller reads, and their indices."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from finetune_api.names import LABEL_DEPLOYMENT
from finetune_operator.kinds import MODEL_DEPLOYMENTS, MODEL_VERSIONS
from finetune_operator.kube.client import KubeApi
from finetune_operator.kube.controller import Key
from finetune_operator.kube.informer import Informer
from finetune_operator.kube.resources import DEPLOYMENTS, PODS, SERVICES, Kind
from finetune_operator.plan.model_deployment import Observed
from finetune_operator.plan.model_deployment_objects import selector_labels

Resource = dict[str, Any]


@dataclass
class ServingCaches:
    """Of one namespace, or of all."""

    model_deployments: Informer
    versions: Informer
    deployments: Informer
    services: Informer
    pods: Informer

    @classmethod
    def build(
        cls,
        api: KubeApi,
        namespace: str | None,
        *,
        model_deployments: Informer | None = None,
        versions: Informer | None = None,
    ) -> "ServingCaches":
        """Informers that another controller has already are shared."""

        def informer(kind: Kind, **options: Any) -> Informer:
            return Informer(api, kind, namespace=namespace, **options)

        return cls(
            model_deployments=model_deployments or informer(MODEL_DEPLOYMENTS),
            versions=versions or informer(MODEL_VERSIONS),
            deployments=informer(DEPLOYMENTS, label_selector=LABEL_DEPLOYMENT),
            services=informer(SERVICES, label_selector=LABEL_DEPLOYMENT),
            pods=informer(PODS, label_selector=LABEL_DEPLOYMENT, indexers={"deployment": _deployment_label}),
        )

    def all(self) -> list[Informer]:
        """Every informer."""
        return [self.model_deployments, self.versions, self.deployments, self.services, self.pods]

    def observed(self, resource: Resource) -> Observed:
        """Everything that the next step of this ModelDeployment depends on, from memory."""
        namespace, name = resource["metadata"]["namespace"], resource["metadata"]["name"]
        label = selector_labels(name)[LABEL_DEPLOYMENT]
        return Observed(
            versions=[one for one in self.versions.list() if one["metadata"]["namespace"] == namespace],
            deployment=self.deployments.get(namespace, name),
            service=self.services.get(namespace, name),
            pods=self.pods.by_index("deployment", f"{namespace}/{label}"),
        )

    # Which ModelDeployments an object's change concerns.

    def keys_of_version(self, version: Resource) -> Iterable[Key]:
        """Those of its model, and those whose adapter stands on it."""
        namespace = version["metadata"]["namespace"]
        reference = f"modelversion://{version['metadata']['name']}"
        models = {version["spec"].get("modelName")} | {
            one["spec"].get("modelName")
            for one in self.versions.list()
            if (one["spec"].get("baseModel") or {}).get("source") == reference
        }
        return [
            (namespace, one["metadata"]["name"])
            for one in self.model_deployments.list()
            if one["metadata"]["namespace"] == namespace and one["spec"].get("modelName") in models
        ]

    def keys_of_pod(self, pod: Resource) -> Iterable[Key]:
        """By the label that selects it."""
        namespace, label = pod["metadata"]["namespace"], pod["metadata"]["labels"][LABEL_DEPLOYMENT]
        return [
            (namespace, one["metadata"]["name"])
            for one in self.model_deployments.list()
            if one["metadata"]["namespace"] == namespace
            and selector_labels(one["metadata"]["name"])[LABEL_DEPLOYMENT] == label
        ]


def _deployment_label(pod: Resource) -> list[str]:
    metadata = pod["metadata"]
    return [f"{metadata['namespace']}/{metadata['labels'][LABEL_DEPLOYMENT]}"]
