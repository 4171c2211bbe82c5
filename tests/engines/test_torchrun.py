from dataclasses import replace

from finetune_operator.engines.gang import Engine, Gang
from finetune_operator.engines.registry import ENGINES
from finetune_operator.engines.torchrun import Torchrun

GANG = Gang("tickets-1", "ml", nodes=4, processes_per_node=8, port=23456)


def environment(gang: Gang = GANG) -> dict[str, str]:
    return {
        one["name"]: one.get("value") or one["valueFrom"]["fieldRef"]["fieldPath"]
        for one in Torchrun().environment(gang)
    }


def test_every_variable_is_one_that_torchrun_reads() -> None:
    """torch.distributed.argparse_util takes the default of --option from PET_OPTION."""
    from torch.distributed.run import get_args_parser

    options = {action.dest.upper() for action in get_args_parser()._actions}
    assert {name.removeprefix("PET_") for name in environment()} <= options


def test_the_gang_meets_at_pod_zero() -> None:
    env = environment()
    assert (env["PET_NNODES"], env["PET_NPROC_PER_NODE"]) == ("4", "8")
    assert (env["PET_MASTER_ADDR"], env["PET_MASTER_PORT"]) == ("tickets-1-0.tickets-1.ml.svc", "23456")


def test_a_single_pod_meets_itself_without_a_name() -> None:
    alone = replace(GANG, nodes=1)
    assert set(environment(alone)) == {"PET_NNODES", "PET_NPROC_PER_NODE", "PET_NODE_RANK"}
    assert Torchrun().ports(alone) == []


def test_the_rank_comes_from_the_index_of_the_pod() -> None:
    assert environment()["PET_NODE_RANK"] == "metadata.annotations['batch.kubernetes.io/job-completion-index']"


def test_the_rendezvous_port_is_open() -> None:
    assert [port["containerPort"] for port in Torchrun().ports(GANG)] == [23456]


def test_every_engine_of_the_api_is_there() -> None:
    from typing import get_args

    from finetune_api.distributed import Distributed

    engines: dict[str, Engine] = ENGINES
    assert set(engines) == set(get_args(Distributed.model_fields["engine"].annotation))
