"""Functions run by two ranks that meet over gloo, each in a process of its own."""

import traceback
from collections.abc import Callable
from typing import Any

from finetune_operator.cli.ports import free_port
from trainer.jobs import warm_processes

SECONDS = 900
"""For all that a gang does; machines may be busy."""


def gang(body: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What `body(ranks, *arguments)` returns on each of two ranks; an exception comes as its traceback."""
    context = warm_processes()
    queue = context.Queue()
    port = free_port()
    processes = [context.Process(target=_rank, args=(body, arguments, rank, port, queue)) for rank in range(2)]
    for process in processes:
        process.start()
    answers = dict(queue.get(timeout=SECONDS) for _ in processes)
    for process in processes:
        process.join(30)
    return [answers[rank] for rank in range(2)]


def _rank(body: Callable[..., Any], arguments: tuple[Any, ...], rank: int, port: int, queue: Any) -> None:
    import torch
    import torch.distributed as dist

    from finetune_trainer.ranks import Ranks

    torch.set_num_threads(1)
    try:
        dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
        ranks = Ranks.join(rank, 2, rank)
        queue.put((rank, body(ranks, *arguments)))
        ranks.barrier()
        dist.destroy_process_group()
    except Exception:
        queue.put((rank, traceback.format_exc()))
