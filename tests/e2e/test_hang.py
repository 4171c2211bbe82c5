"""A rank that stops without a word, as a stuck disk or driver makes it."""

import signal

import psutil
import pytest

from e2e.conftest import Installation
from e2e.test_interruption import LONG, has_checkpoint, long_job
from e2e.user import User, condition, finished
from finetune_operator.kinds import FINE_TUNE_JOBS

pytestmark = pytest.mark.asyncio(loop_scope="session")


def worker(installation: Installation, job: str, rank: int) -> psutil.Process:
    """The process that trains as this rank."""
    assert installation.process is not None
    for process in psutil.Process(installation.process.pid).children(recursive=True):
        if "--worker" in process.cmdline():
            environment = process.environ()
            if environment["RANK"] == str(rank) and environment["POD_NAME"].startswith(f"{job}-"):
                return process
    raise AssertionError(f"no worker of rank {rank} runs")


async def test_a_stopped_rank_is_found_shown_and_replaced(user: User, installation: Installation) -> None:
    if installation.process is None:
        pytest.skip("stops a local process: use kubectl exec on other clusters")
    body = long_job("hung", failurePolicy={"hangTimeoutSeconds": 10, "backoffSeconds": 0})
    body["spec"]["training"] = LONG | {"evaluateEverySteps": LONG["maxSteps"]}  # ten seconds are for steps alone
    await user.apply(body)
    await user.until(FINE_TUNE_JOBS, "hung", has_checkpoint)
    worker(installation, "hung", 1).send_signal(signal.SIGSTOP)
    job = await user.until(FINE_TUNE_JOBS, "hung", finished)
    assert condition(job, "Succeeded").get("status") == "True", job["status"]
    first, second = job["status"]["attempts"]
    assert (first["cause"], first["rank"], first["exitCode"]) == ("Hang", 1, 76), first
    stopped, waiting = first["stacks"]
    assert (stopped["rank"], waiting["rank"]) == (1, 0)
    assert stopped["state"].startswith("stopped by a signal (T")
    assert "train.py" in waiting["text"]
    assert second["resumedFromStep"] >= 10
    assert job["status"]["restarts"] == {"total": 1, "byCause": {"Hang": 1}}
