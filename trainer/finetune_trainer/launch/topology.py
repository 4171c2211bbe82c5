"""Where this pod stands in its gang, from the variables that torchrun reads too (`PET_*`)."""

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from finetune_trainer.errors import ConfigurationError

VARIABLES = ("PET_NNODES", "PET_NPROC_PER_NODE", "PET_NODE_RANK", "PET_MASTER_ADDR", "PET_MASTER_PORT")


@dataclass(frozen=True)
class Topology:
    """A gang of `nodes` pods with `processes` workers each; this is pod `node_rank`."""

    nodes: int
    processes: int
    node_rank: int
    master_addr: str
    master_port: int

    @property
    def world_size(self) -> int:
        return self.nodes * self.processes


def topology_of(environment: Mapping[str, str] = os.environ) -> Topology | None:
    """The gang that the environment describes; None when it describes none: a single process.

    Raises:
        ConfigurationError: A variable is missing or no number.
    """
    if not any(environment.get(name) for name in VARIABLES):
        return None
    nodes = _number(environment, "PET_NNODES", 1, least=1)
    address = environment.get("PET_MASTER_ADDR", "")
    if nodes > 1 and not address:
        raise ConfigurationError("PET_MASTER_ADDR: required when PET_NNODES is above 1; the name of pod 0")
    rank = _number(environment, "PET_NODE_RANK", 0, least=0)
    if rank >= nodes:
        raise ConfigurationError(f"PET_NODE_RANK: must be below PET_NNODES ({nodes}); got {rank}")
    port = _number(environment, "PET_MASTER_PORT", 29500 if nodes > 1 else 0, least=0)
    return Topology(
        nodes=nodes,
        processes=_number(environment, "PET_NPROC_PER_NODE", 1, least=1),
        node_rank=rank,
        master_addr=address or "127.0.0.1",
        master_port=port or _free_port(),
    )


def _number(environment: Mapping[str, str], name: str, default: int, least: int) -> int:
    text = environment.get(name) or str(default)
    if not text.isascii() or not text.isdigit() or int(text) < least:
        raise ConfigurationError(f"{name}: expected a number of at least {least}; got {text!r}")
    return int(text)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
