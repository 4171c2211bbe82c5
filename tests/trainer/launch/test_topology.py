"""The gang that the environment describes."""

import pytest

from finetune_trainer.errors import ConfigurationError
from finetune_trainer.launch.supervisor import Timing
from finetune_trainer.launch.topology import Topology, topology_of

GANG = {
    "PET_NNODES": "2",
    "PET_NPROC_PER_NODE": "4",
    "PET_NODE_RANK": "1",
    "PET_MASTER_ADDR": "tickets-1-0.tickets-1.ml.svc",
    "PET_MASTER_PORT": "23456",
}


def test_no_variables_are_no_gang() -> None:
    assert topology_of({"PATH": "/bin"}) is None


def test_a_gang() -> None:
    topology = topology_of(GANG)

    assert topology == Topology(2, 4, 1, "tickets-1-0.tickets-1.ml.svc", 23456)
    assert topology.world_size == 8


def test_one_pod_needs_no_address() -> None:
    topology = topology_of({"PET_NPROC_PER_NODE": "2"})

    assert topology is not None
    assert (topology.nodes, topology.master_addr) == (1, "127.0.0.1")
    assert topology.master_port > 1023


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"PET_NNODES": "two"}, "PET_NNODES: expected a number of at least 1; got 'two'"),
        ({"PET_NNODES": "-1"}, "PET_NNODES: expected a number of at least 1; got '-1'"),
        ({"PET_NPROC_PER_NODE": "0"}, "PET_NPROC_PER_NODE: expected a number of at least 1; got '0'"),
        ({"PET_NODE_RANK": "2"}, r"PET_NODE_RANK: must be below PET_NNODES \(2\); got 2"),
        ({"PET_MASTER_ADDR": ""}, "PET_MASTER_ADDR: required when PET_NNODES is above 1"),
        ({"PET_MASTER_PORT": "http"}, "PET_MASTER_PORT: expected a number"),
    ],
)
def test_a_wrong_variable_is_named(change: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        topology_of({**GANG, **change})


@pytest.mark.parametrize("text", ["soon", "-1", "0", "nan", "inf"])
def test_patience_is_a_positive_number(text: str) -> None:
    with pytest.raises(ConfigurationError, match="FINETUNE_STOP_GRACE_SECONDS: expected a positive number of seconds"):
        Timing.from_environment({"FINETUNE_STOP_GRACE_SECONDS": text})

    assert Timing.from_environment({"FINETUNE_STOP_GRACE_SECONDS": "30"}).stop_grace == 30
