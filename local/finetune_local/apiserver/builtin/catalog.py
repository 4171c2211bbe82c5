"""The built-in kinds that are served, with their names in URLs, on the command line and in categories."""

import pathlib
from dataclasses import replace
from functools import cache
from typing import Any

import orjson

from finetune_local.apiserver.builtin.annotations import annotate
from finetune_local.apiserver.resource_type import ResourceType, ScalePaths
from finetune_local.apiserver.schema import SchemaCompiler
from finetune_local.apiserver.string_formats import dns_1035_label_error, dns_label_error, path_segment_error

CREATE_ONLY = ("create",)
SCALE = ScalePaths(label_selector=".status.selector")

# group/version: (definition, plural, options, short names). Options: s status, S scale, g generation, c cluster-scoped,
# p names of path segments, a category all, C create only.
KINDS: dict[str, list[tuple[str, str, str, str]]] = {
    "v1": [
        ("V1Namespace", "namespaces", "sc", "ns"),
        ("V1Pod", "pods", "sga", "po"),
        ("V1PodTemplate", "podtemplates", "", ""),
        ("V1Service", "services", "sa", "svc"),
        ("V1ConfigMap", "configmaps", "", "cm"),
        ("V1Secret", "secrets", "", ""),
        ("V1ServiceAccount", "serviceaccounts", "", "sa"),
        ("V1Endpoints", "endpoints", "", "ep"),
        ("V1PersistentVolumeClaim", "persistentvolumeclaims", "s", "pvc"),
        ("V1PersistentVolume", "persistentvolumes", "sc", "pv"),
        ("V1Node", "nodes", "sc", "no"),
        ("V1LimitRange", "limitranges", "", "limits"),
        ("V1ResourceQuota", "resourcequotas", "s", "quota"),
        ("V1ReplicationController", "replicationcontrollers", "sSga", "rc"),
        ("CoreV1Event", "events", "", "ev"),
    ],
    "apps/v1": [
        ("V1Deployment", "deployments", "sSga", "deploy"),
        ("V1ReplicaSet", "replicasets", "sSga", "rs"),
        ("V1StatefulSet", "statefulsets", "sSga", "sts"),
        ("V1DaemonSet", "daemonsets", "sga", "ds"),
        ("V1ControllerRevision", "controllerrevisions", "", ""),
    ],
    "batch/v1": [("V1Job", "jobs", "sga", ""), ("V1CronJob", "cronjobs", "sga", "cj")],
    "autoscaling/v2": [("V2HorizontalPodAutoscaler", "horizontalpodautoscalers", "sa", "hpa")],
    "coordination.k8s.io/v1": [("V1Lease", "leases", "", "")],
    "discovery.k8s.io/v1": [("V1EndpointSlice", "endpointslices", "", "")],
    "events.k8s.io/v1": [("EventsV1Event", "events", "", "ev")],
    "networking.k8s.io/v1": [
        ("V1Ingress", "ingresses", "sg", "ing"),
        ("V1IngressClass", "ingressclasses", "cg", ""),
        ("V1NetworkPolicy", "networkpolicies", "g", "netpol"),
    ],
    "node.k8s.io/v1": [("V1RuntimeClass", "runtimeclasses", "c", "")],
    "policy/v1": [("V1PodDisruptionBudget", "poddisruptionbudgets", "sg", "pdb")],
    "rbac.authorization.k8s.io/v1": [
        ("V1Role", "roles", "p", ""),
        ("V1RoleBinding", "rolebindings", "p", ""),
        ("V1ClusterRole", "clusterroles", "cp", ""),
        ("V1ClusterRoleBinding", "clusterrolebindings", "cp", ""),
    ],
    "scheduling.k8s.io/v1": [("V1PriorityClass", "priorityclasses", "cg", "pc")],
    "storage.k8s.io/v1": [("V1StorageClass", "storageclasses", "c", "sc")],
    "apiextensions.k8s.io/v1": [
        ("V1CustomResourceDefinition", "customresourcedefinitions", "scg", "crd,crds"),
    ],
    "admissionregistration.k8s.io/v1": [
        ("V1ValidatingWebhookConfiguration", "validatingwebhookconfigurations", "cg", ""),
        ("V1MutatingWebhookConfiguration", "mutatingwebhookconfigurations", "cg", ""),
    ],
    "authentication.k8s.io/v1": [
        ("V1TokenReview", "tokenreviews", "cC", ""),
        ("V1SelfSubjectReview", "selfsubjectreviews", "cC", ""),
    ],
    "authorization.k8s.io/v1": [
        ("V1SubjectAccessReview", "subjectaccessreviews", "cC", ""),
        ("V1SelfSubjectAccessReview", "selfsubjectaccessreviews", "cC", ""),
        ("V1SelfSubjectRulesReview", "selfsubjectrulesreviews", "cC", ""),
        ("V1LocalSubjectAccessReview", "localsubjectaccessreviews", "C", ""),
    ],
}
KIND_NAMES = {"CoreV1Event": "Event", "EventsV1Event": "Event", "V2HorizontalPodAutoscaler": "HorizontalPodAutoscaler"}
SINGULAR = {"endpoints": "endpoints"}
NAME_RULES = {
    "namespaces": dns_label_error,
    "services": dns_1035_label_error,
}
EXTRA_CATEGORIES = {"customresourcedefinitions": ("api-extensions",)}
SCHEMAS = pathlib.Path(__file__).with_name("schemas.json")


@cache
def definitions() -> dict[str, Any]:
    """The OpenAPI definitions of all built-in kinds, annotated."""
    return annotate(orjson.loads(SCHEMAS.read_bytes()))


@cache
def compiler() -> SchemaCompiler:
    return SchemaCompiler(definitions())


def kinds() -> list[ResourceType]:
    """All built-in kinds, without the hooks that `strategies` adds."""
    return [
        _resource(api_version, definition, plural, options, short)
        for api_version, entries in KINDS.items()
        for definition, plural, options, short in entries
    ]


def _resource(api_version: str, definition: str, plural: str, options: str, short: str) -> ResourceType:
    group, _, version = api_version.rpartition("/")
    kind = KIND_NAMES.get(definition, definition.removeprefix("V1"))
    resource = ResourceType(
        group=group,
        version=version,
        kind=kind,
        plural=plural,
        namespaced="c" not in options,
        singular=SINGULAR.get(plural, kind.lower()),
        short_names=tuple(filter(None, short.split(","))),
        categories=("all",) if "a" in options else EXTRA_CATEGORIES.get(plural, ()),
        schema=compiler().named(definition),
        definition=definition,
        status_subresource="s" in options,
        scale=SCALE if "S" in options else None,
        has_generation="g" in options,
        name_error=path_segment_error if "p" in options else NAME_RULES.get(plural),
        graceful=plural == "pods",
    )
    return replace(resource, verbs=CREATE_ONLY) if "C" in options else resource
