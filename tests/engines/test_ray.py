"""The head of the cluster is where torchrun's rendezvous would be: the trainer of a pod needs no other variables."""

from dataclasses import replace

from finetune_operator.engines.gang import Gang
from finetune_operator.engines.ray import RayCluster
from finetune_operator.engines.torchrun import Torchrun

GANG = Gang("tickets-1", "ml", nodes=4, processes_per_node=8, port=23456)


def test_pods_are_told_what_torchrun_tells_them() -> None:
    assert RayCluster().environment(GANG) == Torchrun().environment(GANG)


def test_the_heads_port_is_open() -> None:
    assert [port["containerPort"] for port in RayCluster().ports(GANG)] == [23456]


def test_a_single_pod_is_its_own_head_at_an_address_that_all_its_processes_are_told() -> None:
    told = {one["name"]: one for one in RayCluster().environment(replace(GANG, nodes=1))}
    assert told["PET_MASTER_ADDR"]["valueFrom"]["fieldRef"]["fieldPath"] == "status.podIP"
    assert told["PET_MASTER_PORT"]["value"] == "23456"
