"""What the generated schemas lack: list and map topology, patch merge keys, defaults, enums and ranges.

Source: the struct tags and defaults.go of k8s.io/api and k8s.io/kubernetes/pkg/apis (release 1.36).
"""

from typing import Any

# Lists whose items are told apart by keys, in server-side apply and (by the first key) in strategic merge patches.
MAP_LISTS: dict[str, dict[str, list[str]]] = {
    "V1ObjectMeta": {"ownerReferences": ["uid"]},
    "V1PodSpec": {
        "containers": ["name"],
        "initContainers": ["name"],
        "ephemeralContainers": ["name"],
        "volumes": ["name"],
        "imagePullSecrets": ["name"],
        "hostAliases": ["ip"],
        "topologySpreadConstraints": ["topologyKey", "whenUnsatisfiable"],
        "resourceClaims": ["name"],
        "schedulingGates": ["name"],
    },
    "V1PodStatus": {"conditions": ["type"], "podIPs": ["ip"]},
    "V1ServiceSpec": {"ports": ["port", "protocol"]},
    "V1ServiceStatus": {"conditions": ["type"]},
    "V1ServiceAccount": {"secrets": ["name"]},
    "V1NamespaceStatus": {"conditions": ["type"]},
    "V1NodeStatus": {"conditions": ["type"], "addresses": ["type"]},
    "V1PersistentVolumeClaimStatus": {"conditions": ["type"]},
    "V1DeploymentStatus": {"conditions": ["type"]},
    "V1ReplicaSetStatus": {"conditions": ["type"]},
    "V1StatefulSetStatus": {"conditions": ["type"]},
    "V1DaemonSetStatus": {"conditions": ["type"]},
    "V1PodDisruptionBudgetStatus": {"conditions": ["type"]},
    "V1CustomResourceDefinitionStatus": {"conditions": ["type"]},
    "V1ValidatingWebhookConfiguration": {"webhooks": ["name"]},
    "V1MutatingWebhookConfiguration": {"webhooks": ["name"]},
    "V1ResourceRequirements": {"claims": ["name"]},
} | {
    container: {
        "env": ["name"],
        "ports": ["containerPort", "protocol"],
        "volumeMounts": ["mountPath"],
        "volumeDevices": ["devicePath"],
    }
    for container in ("V1Container", "V1EphemeralContainer")
}

SET_LISTS: dict[str, set[str]] = {"V1ObjectMeta": {"finalizers"}, "V1NodeSpec": {"podCIDRs"}}

# Merged in strategic merge patches though atomic in server-side apply.
PATCH_MERGE_ONLY: dict[str, dict[str, str]] = {
    "V1JobStatus": {"conditions": "type"},
    "V1ReplicationControllerStatus": {"conditions": "type"},
    "V1ServiceAccount": {"imagePullSecrets": "name"},
}

# Merge keys of strategic merge patches that differ from the first key of server-side apply.
PATCH_RETAIN_KEYS: dict[str, set[str]] = {"V1PodSpec": {"volumes"}, "V1DeploymentSpec": {"strategy"}}

ATOMIC_MAPS: set[str] = {
    "V1LabelSelector",
    "V1ObjectReference",
    "V1LocalObjectReference",
    "V1TypedLocalObjectReference",
    "V1SecretReference",
    "V1SecretKeySelector",
    "V1ConfigMapKeySelector",
    "V1ObjectFieldSelector",
    "V1ResourceFieldSelector",
    "V1OwnerReference",
    "V1NodeSelector",
    "V1NodeSelectorTerm",
    "V1RoleRef",
    "RbacV1Subject",
    "V1CrossVersionObjectReference",
}
ATOMIC_MAP_FIELDS: dict[str, set[str]] = {
    "V1ServiceSpec": {"selector"},
    "V1PodSpec": {"nodeSelector"},
    "V1ReplicationControllerSpec": {"selector"},
}

CONTAINER_DEFAULTS: dict[str, Any] = {
    "terminationMessagePath": "/dev/termination-log",
    "terminationMessagePolicy": "File",
    "resources": {},
}
DEFAULTS: dict[str, dict[str, Any]] = {
    "V1Container": CONTAINER_DEFAULTS,
    "V1EphemeralContainer": CONTAINER_DEFAULTS,
    "V1PodSpec": {
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": 30,
        "dnsPolicy": "ClusterFirst",
        "schedulerName": "default-scheduler",
        "securityContext": {},
    },
    "V1ContainerPort": {"protocol": "TCP"},
    "V1ServicePort": {"protocol": "TCP"},
    "V1Probe": {"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3},
    "V1HTTPGetAction": {"path": "/", "scheme": "HTTP"},
    "V1GRPCAction": {"service": ""},
    "V1ConfigMapVolumeSource": {"defaultMode": 0o644},
    "V1SecretVolumeSource": {"defaultMode": 0o644},
    "V1DownwardAPIVolumeSource": {"defaultMode": 0o644},
    "V1ProjectedVolumeSource": {"defaultMode": 0o644},
    "V1ServiceAccountTokenProjection": {"expirationSeconds": 3600},
    "V1HostPathVolumeSource": {"type": ""},
    "V1ObjectFieldSelector": {"apiVersion": "v1"},
    "V1ServiceSpec": {"type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster"},
    "V1Secret": {"type": "Opaque"},
    "V1JobSpec": {"completionMode": "NonIndexed", "suspend": False, "podReplacementPolicy": "TerminatingOrFailed"},
    "V1CronJobSpec": {
        "concurrencyPolicy": "Allow",
        "suspend": False,
        "successfulJobsHistoryLimit": 3,
        "failedJobsHistoryLimit": 1,
    },
    "V1DeploymentSpec": {
        "replicas": 1,
        "strategy": {"type": "RollingUpdate"},
        "revisionHistoryLimit": 10,
        "progressDeadlineSeconds": 600,
    },
    "V1ReplicaSetSpec": {"replicas": 1},
    "V1StatefulSetSpec": {
        "replicas": 1,
        "podManagementPolicy": "OrderedReady",
        "revisionHistoryLimit": 10,
        "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
        "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Retain"},
    },
    "V1DaemonSetSpec": {
        "revisionHistoryLimit": 10,
        "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}},
    },
    "V1PersistentVolumeClaimSpec": {"volumeMode": "Filesystem"},
    "V1PersistentVolumeSpec": {"volumeMode": "Filesystem", "persistentVolumeReclaimPolicy": "Retain"},
    "V1StorageClass": {"reclaimPolicy": "Delete", "volumeBindingMode": "Immediate"},
    "V1PriorityClass": {"preemptionPolicy": "PreemptLowerPriority"},
    "V1CustomResourceDefinitionSpec": {"conversion": {"strategy": "None"}},
    "V1ValidatingWebhook": {
        "matchPolicy": "Equivalent",
        "timeoutSeconds": 10,
        "failurePolicy": "Fail",
        "namespaceSelector": {},
        "objectSelector": {},
    },
    "V1MutatingWebhook": {
        "matchPolicy": "Equivalent",
        "timeoutSeconds": 10,
        "failurePolicy": "Fail",
        "reinvocationPolicy": "Never",
        "namespaceSelector": {},
        "objectSelector": {},
    },
}

ENUMS: dict[str, dict[str, list[str]]] = {
    "V1PodSpec": {
        "restartPolicy": ["Always", "OnFailure", "Never"],
        "dnsPolicy": ["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"],
        "preemptionPolicy": ["Never", "PreemptLowerPriority"],
    },
    "V1Container": {
        "imagePullPolicy": ["Always", "IfNotPresent", "Never"],
        "terminationMessagePolicy": ["FallbackToLogsOnError", "File"],
    },
    "V1ContainerPort": {"protocol": ["SCTP", "TCP", "UDP"]},
    "V1ServicePort": {"protocol": ["SCTP", "TCP", "UDP"]},
    "V1ServiceSpec": {
        "type": ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"],
        "sessionAffinity": ["ClientIP", "None"],
        "internalTrafficPolicy": ["Cluster", "Local"],
        "externalTrafficPolicy": ["Cluster", "Local"],
    },
    "V1JobSpec": {
        "completionMode": ["Indexed", "NonIndexed"],
        "podReplacementPolicy": ["Failed", "TerminatingOrFailed"],
    },
    "V1PodFailurePolicyRule": {"action": ["Count", "FailIndex", "FailJob", "Ignore"]},
    "V1PodFailurePolicyOnExitCodesRequirement": {"operator": ["In", "NotIn"]},
    "V1CronJobSpec": {"concurrencyPolicy": ["Allow", "Forbid", "Replace"]},
    "V1DeploymentStrategy": {"type": ["Recreate", "RollingUpdate"]},
    "V1PersistentVolumeClaimSpec": {"volumeMode": ["Block", "Filesystem"]},
    "V1LabelSelectorRequirement": {"operator": ["DoesNotExist", "Exists", "In", "NotIn"]},
    "V1TopologySpreadConstraint": {"whenUnsatisfiable": ["DoNotSchedule", "ScheduleAnyway"]},
    "V1CustomResourceDefinitionSpec": {"scope": ["Cluster", "Namespaced"]},
    "V1HTTPGetAction": {"scheme": ["HTTP", "HTTPS"]},
}

MINIMUMS: dict[str, dict[str, int]] = {
    "V1JobSpec": {
        "parallelism": 0,
        "completions": 0,
        "activeDeadlineSeconds": 0,
        "backoffLimit": 0,
        "backoffLimitPerIndex": 0,
        "maxFailedIndexes": 0,
        "ttlSecondsAfterFinished": 0,
    },
    "V1DeploymentSpec": {"replicas": 0, "minReadySeconds": 0, "revisionHistoryLimit": 0, "progressDeadlineSeconds": 0},
    "V1ReplicaSetSpec": {"replicas": 0, "minReadySeconds": 0},
    "V1StatefulSetSpec": {"replicas": 0, "minReadySeconds": 0},
    "V1PodSpec": {"terminationGracePeriodSeconds": 0},
    "V1Probe": {
        "initialDelaySeconds": 0,
        "timeoutSeconds": 1,
        "periodSeconds": 1,
        "successThreshold": 1,
        "failureThreshold": 1,
    },
    "V1LeaseSpec": {"leaseTransitions": 0},
}

# Quantities: text on the wire, but numbers are accepted.
QUANTITY_MAPS: dict[str, set[str]] = {
    "V1ResourceRequirements": {"limits", "requests"},
    "V1VolumeResourceRequirements": {"limits", "requests"},
    "V1NodeStatus": {"capacity", "allocatable"},
    "V1PersistentVolumeSpec": {"capacity"},
    "V1PersistentVolumeClaimStatus": {"capacity", "allocatedResources"},
    "V1PodSpec": {"overhead"},
    "V1ResourceQuotaSpec": {"hard"},
    "V1ResourceQuotaStatus": {"hard", "used"},
    "V1LimitRangeItem": {"max", "min", "default", "defaultRequest", "maxLimitRequestRatio"},
    "V1ContainerStatus": {"allocatedResources"},
}
QUANTITIES: dict[str, set[str]] = {
    "V1EmptyDirVolumeSource": {"sizeLimit"},
    "V1ResourceFieldSelector": {"divisor"},
}

# Free-form JSON, kept as it is.
FREE_FORM: dict[str, set[str]] = {
    "V1JSONSchemaProps": {
        "additionalItems",
        "additionalProperties",
        "default",
        "enum",
        "example",
        "items",
    },
    "V1ManagedFieldsEntry": {"fieldsV1"},
    "V1ControllerRevision": {"data"},
}


def annotate(definitions: dict[str, Any]) -> dict[str, Any]:
    """Adds the annotations to freshly loaded definitions, in place, as x-kubernetes-* and OpenAPI keywords."""
    for name, schema in definitions.items():
        if name in ATOMIC_MAPS:
            schema["x-kubernetes-map-type"] = "atomic"
        properties = schema.get("properties", {})
        for field in set(properties):
            properties[field] = _annotated(name, field, properties[field])
    return definitions


def _annotated(name: str, field: str, schema: dict[str, Any]) -> dict[str, Any]:
    if field in FREE_FORM.get(name, ()):
        described = {"description": schema["description"]} if "description" in schema else {}
        return described | {"x-kubernetes-preserve-unknown-fields": True}
    schema = schema | _topology(name, field) | _values(name, field)
    if field in QUANTITY_MAPS.get(name, ()):
        schema["additionalProperties"] = {"type": "string", "format": "quantity"}
    if field in QUANTITIES.get(name, ()):
        schema["format"] = "quantity"
    return schema


def _topology(name: str, field: str) -> dict[str, Any]:
    added: dict[str, Any] = {}
    if keys := MAP_LISTS.get(name, {}).get(field):
        added |= {
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": keys,
            "x-kubernetes-patch-merge-key": keys[0],
            "x-kubernetes-patch-strategy": "merge",
        }
    if field in SET_LISTS.get(name, ()):
        added |= {"x-kubernetes-list-type": "set", "x-kubernetes-patch-strategy": "merge"}
    if key := PATCH_MERGE_ONLY.get(name, {}).get(field):
        added |= {"x-kubernetes-patch-merge-key": key, "x-kubernetes-patch-strategy": "merge"}
    if field in PATCH_RETAIN_KEYS.get(name, ()):
        merged = added.get("x-kubernetes-patch-strategy")
        added["x-kubernetes-patch-strategy"] = "merge,retainKeys" if merged else "retainKeys"
    if field in ATOMIC_MAP_FIELDS.get(name, ()):
        added["x-kubernetes-map-type"] = "atomic"
    return added


def _values(name: str, field: str) -> dict[str, Any]:
    added: dict[str, Any] = {}
    if field in DEFAULTS.get(name, {}):
        added["default"] = DEFAULTS[name][field]
    if values := ENUMS.get(name, {}).get(field):
        added["enum"] = values
    if field in MINIMUMS.get(name, {}):
        added["minimum"] = MINIMUMS[name][field]
    return added
