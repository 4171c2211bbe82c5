"""Ray: pod 0 is the head of a cluster of the gang's own pods, and the others join it there.

https://docs.ray.io/en/latest/cluster/faq.html
"""

from typing import Any

from finetune_operator.engines.gang import Gang
from finetune_operator.engines.torchrun import Torchrun


class RayCluster(Torchrun):
    """Implements `Engine`. Who and where is told as to torchrun: the head is where its rendezvous would be."""

    def ports(self, gang: Gang) -> list[dict[str, Any]]:
        """The head's. The nodes tell it on which ports they listen, all of which only the gang reaches."""
        return [{"name": "ray-head", "containerPort": gang.port, "protocol": "TCP"}]
