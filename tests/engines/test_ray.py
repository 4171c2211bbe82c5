"""The head of the cluster is where torchrun's rendezvous would be: the trainer of a pod needs no other variables."""

from finetune_operator.engines.gang import Gang
from finetune_operator.engines.ray import RayCluster
from finetune_operator.engines.torchrun import Torchrun

GANG = Gang("tickets-1", "ml", nodes=4, processes_per_node=8, port=23456)


def test_pods_are_told_what_torchrun_tells_them() -> None:
    assert RayCluster().environment(GANG) == Torchrun().environment(GANG)


def test_the_heads_port_is_open() -> None:
    assert [port["containerPort"] for port in RayCluster().ports(GANG)] == [23456]
