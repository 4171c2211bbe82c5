"""torchrun: static rendezvous at pod 0, told by torch's own PET_* variables.

https://docs.pytorch.org/docs/stable/elastic/run.html
"""

from typing import Any

from finetune_operator.engines.gang import COMPLETION_INDEX, Gang


class Torchrun:
    """Implements `Engine`."""

    def environment(self, gang: Gang) -> list[dict[str, Any]]:
        size: list[dict[str, Any]] = [
            {"name": "PET_NNODES", "value": str(gang.nodes)},
            {"name": "PET_NPROC_PER_NODE", "value": str(gang.processes_per_node)},
            {"name": "PET_NODE_RANK", "valueFrom": {"fieldRef": {"fieldPath": COMPLETION_INDEX}}},
        ]
        if gang.alone:  # torchrun's default: the loopback address
            return size
        return [
            *size,
            {"name": "PET_MASTER_ADDR", "value": gang.host(0)},
            {"name": "PET_MASTER_PORT", "value": str(gang.port)},
        ]

    def ports(self, gang: Gang) -> list[dict[str, Any]]:
        return [] if gang.alone else [{"name": "rendezvous", "containerPort": gang.port, "protocol": "TCP"}]
