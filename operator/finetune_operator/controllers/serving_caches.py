"""The informers that the ModelDeployment controller reads, and their indices."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any

from finetune_api.names import LABEL_DEPLOYMENT
from finetune_operator.controllers.model_caches import (
    base_version,
    model_deployment_cache,
    model_of,
    model_version_cache,
)
from finetune_operator.kube.client import KubeApi
from finetune_operator.kube.controller import Key
from finetune_operator.kube.informer import Informer
from finetune_operator.kube.resources import DEPLOYMENTS, PODS, SERVICES, Kind
from finetune_operator.plan.model_deployment import Observed
from finetune_operator.plan.model_deployment_objects import selector_labels
from finetune_operator.plan.model_deployment_versions import CHOICES, is_usable

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
            model_deployments=model_deployments or model_deployment_cache(api, namespace),
            versions=versions or model_version_cache(api, namespace),
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
            versions=self._versions(resource),
            deployment=self.deployments.get(namespace, name),
            service=self.services.get(namespace, name),
            pods=self.pods.by_index("deployment", f"{namespace}/{label}"),
        )

    def _versions(self, resource: Resource) -> list[Resource]:
        """Those that it names or remembers, those that it may choose next, and the ones that these stand on.

        A model may have had thousands: the others are not looked at.
        """
        namespace, status = resource["metadata"]["namespace"], resource.get("status") or {}
        named = {resource["spec"].get("version"), status.get("stable"), status.get("candidate")}
        named.update(status.get("failedVersions") or ())
        found = self._found({(namespace, name) for name in named if name})
        found += self._newest(resource, {version["metadata"]["name"] for version in found})
        known = {version["metadata"]["name"] for version in found}
        bases = {
            (ns, name) for version in found for ns, _, name in (key.partition("/") for key in base_version(version))
        }
        return found + self._found({base for base in bases if base[1] not in known})

    def _newest(self, resource: Resource, known: set[str]) -> list[Resource]:
        (model,) = model_of(resource)
        unknown = (name for name in self.versions.names_from_last("approved", model) if name[1] not in known)
        usable = (one for name in unknown if (one := self.versions.get(*name)) and is_usable(one))
        return list(islice(usable, CHOICES))

    def _found(self, names: set[Key]) -> list[Resource]:
        return [version for name in names if (version := self.versions.get(*name))]

    # Which ModelDeployments an object's change concerns.

    def keys_of_version(self, version: Resource) -> Iterable[Key]:
        """Those of its model, and those whose adapter stands on it."""
        metadata = version["metadata"]
        standing = self.versions.orders("base", f"{metadata['namespace']}/{metadata['name']}")
        models = {*model_of(version), *standing}
        return [key for model in models for key in self.model_deployments.names_by_index("model", model)]

    def keys_of_pod(self, pod: Resource) -> Iterable[Key]:
        """By the label that selects it."""
        namespace, label = pod["metadata"]["namespace"], pod["metadata"]["labels"][LABEL_DEPLOYMENT]
        return self.model_deployments.names_by_index("label", f"{namespace}/{label}")


def _deployment_label(pod: Resource) -> list[str]:
    metadata = pod["metadata"]
    return [f"{metadata['namespace']}/{metadata['labels'][LABEL_DEPLOYMENT]}"]
