"""Ray: pod 0 is the head of a cluster of the gang's own pods, and the others join it there.

https://docs.ray.io/en/latest/cluster/faq.html
"""

from typing import Any

from finetune_operator.engines.gang import Gang
from finetune_operator.engines.torchrun import Torchrun


class RayCluster(Torchrun):
    """Implements `Engine`. Who and where is told as to torchrun: the head is where its rendezvous would be."""

    def environment(self, gang: Gang) -> list[dict[str, Any]]:
        told = super().environment(gang)
        if not gang.alone:
            return told
        # Head, driver and workers are processes of their own, and must agree where the head is, named or not.
        return [
            *told,
            {"name": "PET_MASTER_ADDR", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "PET_MASTER_PORT", "value": str(gang.port)},
        ]

    def ports(self, gang: Gang) -> list[dict[str, Any]]:
        """The head's. The nodes tell it on which ports they listen, all of which only the gang reaches."""
        return [{"name": "ray-head", "containerPort": gang.port, "protocol": "TCP"}]
