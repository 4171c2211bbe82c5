"""What training pods may reach over the network, beyond what they cannot do without."""

from ipaddress import ip_network
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from finetune_api.base import Schema


def _address_block(text: str) -> str:
    try:
        ip_network(text)
    except ValueError as error:
        raise ValueError(f"{error}; write an address block such as 10.0.0.0/8 or 192.0.2.7/32") from error
    return text


class Destination(Schema):
    """Addresses and TCP ports, such as an object store on a port of its own or a proxy."""

    cidr: Annotated[str, AfterValidator(_address_block)] = Field(max_length=64)
    """Address block."""
    ports: list[Annotated[int, Field(ge=1, le=65535)]] = Field(min_length=1, max_length=16)
    """TCP ports."""


class NetworkAccess(Schema):
    """Enforced by the cluster's network plugin, where it has one that knows NetworkPolicies."""

    isolation: Literal["Gang", "None"] = Field(
        "Gang",
        description="Gang: pods reach their gang, DNS, the progress receiver, and storage when the job reads or writes "
        "s3:// or hf://. None: no NetworkPolicy is made.",
    )
    storage: list[Destination] | None = Field(
        None,
        max_length=32,
        description="Where s3:// and hf:// are, with isolation Gang. Default: what the operator was installed with, or "
        "else port 443 of all public addresses.",
    )
    egress: list[Destination] = Field(
        default_factory=list, max_length=32, description="What they may reach besides, with isolation Gang."
    )
