"""Functions run by two ranks that meet over gloo, each in a process of its own."""

import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from typing import Any

from finetune_operator.cli.ports import free_port
from trainer.jobs import warm_processes

SECONDS = 900
"""For all that a gang does; machines may be busy."""


class RankFailed(AssertionError):
    """One rank raised or died; the other, which may wait for it for ever, was ended."""


def gang(body: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What `body(ranks, *arguments)` returns on each of two ranks. Raises RankFailed as soon as one of them fails."""
    context = warm_processes()
    port = free_port()
    processes, ends = [], {}
    for rank in range(2):
        reader, writer = context.Pipe(duplex=False)
        processes.append(context.Process(target=_rank, args=(body, arguments, rank, port, writer)))
        processes[-1].start()
        writer.close()  # so that the end of a process is the end of its pipe
        ends[reader] = rank
    try:
        answers = _answers(ends)
    except RankFailed:
        for process in processes:
            process.kill()
        raise
    finally:
        for process in processes:
            process.join(30)
    return [answers[rank] for rank in range(2)]


def _answers(ends: dict[Connection, int]) -> dict[int, Any]:
    answers: dict[int, Any] = {}
    while len(answers) < len(ends):
        ready = wait([end for end, rank in ends.items() if rank not in answers], SECONDS)
        if not ready:
            raise RankFailed(f"{len(ends) - len(answers)} ranks have not answered for {SECONDS} seconds")
        for end in ready:
            assert isinstance(end, Connection)
            try:
                failed, answers[ends[end]] = end.recv()
            except EOFError:
                raise RankFailed(f"rank {ends[end]} died without a word") from None
            if failed:
                raise RankFailed(f"rank {ends[end]} failed:\n{answers[ends[end]]}")
    return answers


def _rank(body: Callable[..., Any], arguments: tuple[Any, ...], rank: int, port: int, end: Connection) -> None:
    import torch
    import torch.distributed as dist

    from finetune_trainer.ranks import Ranks

    torch.set_num_threads(1)
    try:
        dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
        ranks = Ranks.join(rank, 2, rank)
        end.send((False, body(ranks, *arguments)))
        ranks.barrier()
        dist.destroy_process_group()
    except Exception:
        end.send((True, traceback.format_exc()))
