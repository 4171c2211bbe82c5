"""One verdict on a pod from the ends of its workers: whose failure came first, and what to call it."""

import signal
from dataclasses import dataclass
from pathlib import Path

from finetune_api.reports import RankStack, TerminationMessage
from finetune_trainer.errors import CRASH, OUTCOME_OF_EXIT_CODE
from finetune_trainer.launch.hang_watch import Overdue

CUT_CONNECTION = ("Connection closed by peer", "Connection reset by peer", "DistBackendError", "DistNetworkError")
"""What the peers of a dead rank die of; never the root of a failure while another rank has a better reason."""

BEFORE_THE_MODEL = (
    "its model was not loaded yet, so it was filled by the data that was prepared, by model files, or by a process "
    "beside. Try next: raise resources.limits.memory"
)
"""Of a worker that left no note of what fills its memory."""


@dataclass(frozen=True)
class WorkerEnd:
    """How one worker ended."""

    rank: int
    status: int
    """Exit status; negative for a signal."""
    message: TerminationMessage | None = None
    """Its own last words, if it had any."""
    when: float = 0.0
    """When it said them, seconds since the epoch."""
    by_us: bool = False
    """Ended by our own SIGKILL or SIGTERM."""
    memory: str = ""
    """What filled its memory and what to try next, noted while it lived."""

    @property
    def said(self) -> str:
        """For the log."""
        return f"{self.message.outcome}: {self.message.message}" if self.message else _how(self.status)


@dataclass(frozen=True)
class Surroundings:
    """What the launcher knows beyond the workers' own words."""

    stop_requested: bool = False
    oom_kills: int = 0
    """Processes of this container that the kernel killed for memory during the run."""


def judge(ends: list[WorkerEnd], around: Surroundings) -> TerminationMessage:
    """The termination message of the pod."""
    if all(end.status == 0 for end in ends):
        first = min(ends, key=lambda end: end.rank)
        return first.message or TerminationMessage(outcome="Succeeded", rank=first.rank)
    failed = [end for end in ends if end.status != 0]
    root = min(failed, key=lambda end: (_suspicion(end, around), end.when, end.rank))
    return _describe(root, around)


def hang(overdue: list[Overdue], steps: dict[int, int], stacks: list[RankStack]) -> TerminationMessage:
    """Of workers that make no progress. The one to look at first does not even answer, or is behind the others."""
    ranked = sorted(stacks, key=lambda one: (not one.state, steps.get(one.rank, 0), one.rank))
    silent = max(one.silent for one in overdue)
    first = ranked[0].rank if ranked else overdue[0].rank
    mute = "".join(f"; rank {one.rank} {one.state}" for one in ranked if one.state)
    return TerminationMessage(
        outcome="Hang",
        message=f"no sign of progress for {silent:.0f} s after step {steps.get(first, 0)}{mute}",
        rank=first,
        step=steps.get(first),
        stacks=ranked[:16],
    )


def exit_code(message: TerminationMessage) -> int:
    """The exit status that goes with an outcome."""
    codes = {outcome: code for code, outcome in OUTCOME_OF_EXIT_CODE.items()}
    return codes.get(message.outcome, CRASH)


def _suspicion(end: WorkerEnd, around: Surroundings) -> int:
    """How likely this end is the root of the others: the lower, the more."""
    if end.message is None:
        return 5 if end.by_us else 1
    match end.message.outcome:
        case "Preempted":
            return 3
        case "Crash":
            cut = any(sign in end.message.message for sign in CUT_CONNECTION)
            return 4 if cut else 2
        case "Succeeded":
            return 2  # it said that it was done and then did not end well
        case _:
            return 0


def _describe(end: WorkerEnd, around: Surroundings) -> TerminationMessage:
    if end.message is not None and end.message.outcome != "Succeeded":
        return end.message
    text = f"rank {end.rank} {_how(end.status)}"
    if end.status == -signal.SIGKILL and around.oom_kills:
        filled = end.memory or BEFORE_THE_MODEL
        return TerminationMessage(
            outcome="OutOfMemory", message=f"{text}: the container ran out of memory: {filled}", rank=end.rank
        )
    if around.stop_requested and end.status in (-signal.SIGTERM, -signal.SIGINT, -signal.SIGKILL):
        why = "after the grace, what followed the newest checkpoint is lost" if end.by_us else "while it was starting"
        return TerminationMessage(outcome="Preempted", message=f"asked to stop; {text} {why}", rank=end.rank)
    known = OUTCOME_OF_EXIT_CODE.get(end.status, "Crash") if end.status > 0 else "Crash"
    return TerminationMessage(outcome=known, message=f"{text} without a word", rank=end.rank)


def _how(status: int) -> str:
    if status >= 0:
        return f"ended with exit code {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"


def noted(path: Path) -> str:
    """What a worker left of its memory; nothing where it left nothing."""
    return path.read_text() if path.exists() else ""


def oom_kills(events: Path = Path("/sys/fs/cgroup/memory.events")) -> int:
    """How many processes of this cgroup the kernel has killed for memory so far; 0 where it cannot be known."""
    try:
        lines = events.read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)


def preempted_early(why: str) -> TerminationMessage:
    """Stopped before any worker ran; the pod lost nothing."""
    return TerminationMessage(outcome="Preempted", message=why)
