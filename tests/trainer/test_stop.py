"""Stopping and saving at a step that every rank agrees on, over real gloo groups."""

import os
import signal
from typing import Any

from finetune_api.training import Checkpoint
from finetune_trainer.ranks import Ranks
from finetune_trainer.stop import Decision, StepAgreement, StopSignal
from trainer.gangs import gang


def spec(**interval: Any) -> Checkpoint:
    return Checkpoint(storage="file:///tmp/x", **interval)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_signal_only_sets_a_flag() -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        stop = StopSignal().install()
        assert not stop.requested
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.requested
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_every_so_many_steps() -> None:
    agreement = StepAgreement(Ranks(), StopSignal(), spec(everySteps=3))

    assert [step for step in range(1, 10) if agreement.at(step).save] == [3, 6, 9]


def test_every_so_many_minutes_since_the_last_save() -> None:
    clock = Clock()
    agreement = StepAgreement(Ranks(), StopSignal(), spec(everyMinutes=2), clock)

    clock.now = 119
    assert agreement.at(1) == Decision(stop=False, save=False)
    clock.now = 120
    assert agreement.at(2) == Decision(stop=False, save=True)
    agreement.saved()
    assert agreement.at(3) == Decision(stop=False, save=False)


def test_ten_minutes_when_nothing_is_said() -> None:
    clock = Clock()
    agreement = StepAgreement(Ranks(), StopSignal(), spec(), clock)

    clock.now = 599
    assert not agreement.at(1).save
    clock.now = 600
    assert agreement.at(2).save


def agree(ranks: Ranks) -> dict[str, Any]:
    """Several agreements in one gang, for a process group costs seconds."""
    stop, clock = StopSignal(), Clock()
    agreement = StepAgreement(ranks, stop, spec(everyMinutes=1), clock)
    clock.now = 61.0 if ranks.rank == 1 else 0.0
    seen: dict[str, Any] = {"only rank 1's clock is due": agreement.at(1)}
    clock.now = 61.0 if ranks.rank == 0 else 0.0
    seen["rank 0's clock is due"] = agreement.at(2)
    agreement.saved()
    if ranks.rank == 1:
        stop.request()
    seen["rank 1 was told to stop"] = agreement.at(3)
    seen["gathered"] = ranks.gather(f"from {ranks.rank}")
    seen["broadcast"] = ranks.broadcast(f"from {ranks.rank}")
    try:
        agreement.at(4 + ranks.rank)
    except RuntimeError as error:
        seen["diverged"] = str(error)
    return seen


def test_one_ranks_wish_is_everyones_decision() -> None:
    seen = gang(agree)

    assert seen[0] == seen[1]
    assert seen[0] == {
        "only rank 1's clock is due": Decision(stop=False, save=False),
        "rank 0's clock is due": Decision(stop=False, save=True),
        "rank 1 was told to stop": Decision(stop=True, save=True),
        "gathered": ["from 0", "from 1"],
        "broadcast": "from 0",
        "diverged": "the ranks are at different steps (4 to 5): they got different numbers of batches",
    }


def test_a_world_of_one_needs_no_process_group() -> None:
    ranks = Ranks.join(0, 1, 0)

    assert (ranks.gather("x"), ranks.broadcast("y"), ranks.maximum([3])) == (["x"], "y", [3])
    ranks.barrier()
