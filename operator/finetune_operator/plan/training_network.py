"""Whom training pods may speak to wherever they run: the installation's answer, which runtimes add to.

The peers are those of NetworkPolicies; a policy is held against the address that a packet has once Services are
resolved. Named here is what most clusters have; docs/security.md says what others need.
"""

from functools import lru_cache
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

KINDS_OF_PEER = {"ipBlock", "namespaceSelector", "podSelector"}
OMITTED = ("matchLabels", "matchExpressions", "except")
"""Left out by the API server where they are empty: a policy that has them would never be seen to be as it should."""
NAMESPACE_LABEL = "kubernetes.io/metadata.name"
PRIVATE = ["10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16"]
"""RFC 1918, and RFC 6598, which clouds give to pods: where pods, Services and API servers are."""
LINK_LOCAL = ["169.254.0.0/16"]
"""RFC 3927: metadata servers, which hand out the identity of the node."""
LINK_LOCAL_IPV6 = ["fe80::/10"]
PRIVATE_IPV6 = ["fc00::/7", *LINK_LOCAL_IPV6]
"""RFC 4193 and 4291, metadata servers of clouds among them."""


def _peer(peer: dict[str, Any]) -> dict[str, Any]:
    if not peer or set(peer) - KINDS_OF_PEER:
        raise ValueError(f"a peer has {', '.join(sorted(KINDS_OF_PEER))}, not {', '.join(sorted(peer)) or 'nothing'}")
    if wrong := [kind for kind, inner in peer.items() if not isinstance(inner, dict)]:
        raise ValueError(f"{wrong[0]}: write its fields, or {{}} for all; got {peer[wrong[0]]!r}")
    return {
        kind: {name: value for name, value in inner.items() if value or name not in OMITTED}
        for kind, inner in peer.items()
    }


Peer = Annotated[dict[str, Any], AfterValidator(_peer)]
Port = Annotated[int, Field(ge=1, le=65535)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel, populate_by_name=True)


class Dns(_Part):
    """Resolvers: the cluster's own, and NodeLocal DNSCache, which listens on an address of the node."""

    to: list[Peer] = Field(
        default=[
            {
                "namespaceSelector": {"matchLabels": {NAMESPACE_LABEL: "kube-system"}},
                "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
            },
            {"ipBlock": {"cidr": "169.254.20.10/32"}},
        ],
        min_length=1,
    )
    ports: list[Port] = Field(default=[53], min_length=1)


class Storage(_Part):
    """S3 and the Hugging Face Hub: the internet, and nothing that is private."""

    to: list[Peer] = Field(
        default=[
            {"ipBlock": {"cidr": "0.0.0.0/0", "except": [*PRIVATE, *LINK_LOCAL]}},
            {"ipBlock": {"cidr": "::/0", "except": PRIVATE_IPV6}},
        ],
        min_length=1,
    )
    ports: list[Port] = Field(default=[443], min_length=1)


class TrainingNetwork(_Part):
    """What `finetune-operator run --training-network` takes as JSON."""

    dns: Dns = Dns()
    storage: Storage = Storage()
    metrics_from: list[Peer] = Field(
        default=[{"namespaceSelector": {"matchLabels": {NAMESPACE_LABEL: "monitoring"}}}],
        description="Who may read the metrics of training pods; empty: nobody.",
    )


@lru_cache(maxsize=8)
def training_network(text: str) -> TrainingNetwork:
    """From JSON; empty text stands for the defaults.

    Raises:
        pydantic.ValidationError: With the field that is wrong.
    """
    return TrainingNetwork.model_validate_json(text or "{}")
