"""Who a training pod may speak to: its gang, DNS, the progress receiver, and storage that is reached over the network.

A gang of several pods has a NetworkPolicy of its own, which names the gang. A pod that is alone has no peers, so none
of its rules is of its job: all such pods of a namespace that may reach the same are selected by one policy, whose name
and selector follow from the rules. Other rules are another policy; none ever has to change under a pod that runs.

Volumes need no rule: the node mounts them, not the pod. Without a controller for NetworkPolicies nothing is enforced.
https://kubernetes.io/docs/concepts/services-networking/network-policies/
"""

from collections.abc import Sequence
from hashlib import sha256
from typing import Any
from urllib.parse import urlsplit

import orjson

from finetune_api.names import LABEL_COMPONENT, LABEL_JOB, LABEL_NETWORK, METRICS_PORT
from finetune_api.network import Destination, NetworkAccess
from finetune_operator.plan.names import short_name
from finetune_operator.plan.resolution import ResolvedJob
from finetune_operator.plan.settings import Settings
from finetune_operator.plan.training_network import (
    LINK_LOCAL,
    LINK_LOCAL_IPV6,
    NAMESPACE_LABEL,
    TrainingNetwork,
    training_network,
)

Resource = dict[str, Any]
HTTPS_PORT = 443
ANYWHERE = [
    {"ipBlock": {"cidr": "0.0.0.0/0", "except": LINK_LOCAL}},
    {"ipBlock": {"cidr": "::/0", "except": LINK_LOCAL_IPV6}},
]
"""But for metadata servers: an address that is known by name alone may be any other, private ones among them."""
LOCAL_SCHEMES = ("pvc", "file")


OPEN, GANG = "open", "gang"
"""Values of the label of pods that no shared policy selects: every pod has one, so that no template can set it."""


def network_policy_spec(job: ResolvedJob, settings: Settings) -> Resource | None:
    """The spec for all pods of a job; None where its runtime leaves the network open."""
    if job.network.isolation == "None":
        return None
    rules = _rules(job, settings)
    if is_shared(job):
        return {"podSelector": {"matchLabels": {LABEL_COMPONENT: "trainer", LABEL_NETWORK: _digest(rules)}}} | rules
    selected = {"matchLabels": {LABEL_JOB: short_name(job.name), LABEL_COMPONENT: "trainer"}}
    gang = [{"podSelector": selected}]
    return {
        "podSelector": selected,
        "policyTypes": rules["policyTypes"],
        "ingress": [{"from": gang}, *rules.get("ingress", [])],
        "egress": [{"to": gang}, *rules["egress"]],
    }


def is_shared(job: ResolvedJob) -> bool:
    """A pod reaches itself whatever its policy says, so one that is alone needs no rule for its gang."""
    return job.spec.distributed.nodes == 1


def network_label(job: ResolvedJob, settings: Settings) -> str:
    """Of the pods: which shared policy selects them, if any."""
    if job.network.isolation == "None":
        return OPEN
    return _digest(_rules(job, settings)) if is_shared(job) else GANG


def _rules(job: ResolvedJob, settings: Settings) -> Resource:
    """What any pod with this access may do, whatever its gang."""
    network = training_network(settings.training_network)
    dns = [_port(port, protocol) for port in network.dns.ports for protocol in ("UDP", "TCP")]
    egress: list[Resource] = [{"to": network.dns.to, "ports": dns}]
    if settings.progress_url is not None:
        egress.append(_receiver(settings.progress_url, settings.progress_port))
    if speaks_to_storage(job):
        egress += _storage(job.network, network)
    readers = {"from": network.metrics_from, "ports": [_port(METRICS_PORT)]}
    return {
        "policyTypes": ["Ingress", "Egress"],
        # No peers would be all peers, and no rules are no list: the API server drops empty ones.
        **({"ingress": [readers]} if network.metrics_from else {}),
        "egress": [*egress, *_granted(job.network.egress)],
    }


def _storage(access: NetworkAccess, network: TrainingNetwork) -> list[Resource]:
    """What the runtime names, else what the installation does."""
    if access.storage is not None:
        return _granted(access.storage)
    return [{"to": network.storage.to, "ports": [_port(port) for port in network.storage.ports]}]


def _digest(rules: Resource) -> str:
    return sha256(orjson.dumps(rules, option=orjson.OPT_SORT_KEYS)).hexdigest()[:10]


def speaks_to_storage(job: ResolvedJob) -> bool:
    """Whether anything that it reads or writes is no volume and no file."""
    places = (*job.reads, job.checkpoint.storage, job.output)
    return any(urlsplit(place).scheme not in LOCAL_SCHEMES for place in places)


def _receiver(url: str, target_port: int) -> Resource:
    """A Service of the cluster is reached at its pods; anything else by the port of its URL."""
    parts = urlsplit(url)
    names = (parts.hostname or "").split(".")
    if len(names) >= 3 and names[2] == "svc":
        namespace = {"namespaceSelector": {"matchLabels": {NAMESPACE_LABEL: names[1]}}}
        return {"to": [namespace], "ports": [_port(target_port)]}
    port = parts.port or (HTTPS_PORT if parts.scheme == "https" else 80)
    return {"to": ANYWHERE, "ports": [_port(port)]}


def _granted(destinations: Sequence[Destination]) -> list[Resource]:
    return [
        {"to": [{"ipBlock": {"cidr": one.cidr}}], "ports": [_port(port) for port in one.ports]} for one in destinations
    ]


def _port(number: int, protocol: str = "TCP") -> Resource:
    return {"port": number, "protocol": protocol}
