"""A rank that stops without a word, as a stuck disk or driver makes it."""

import asyncio
import base64
import json
import shutil
import signal
from pathlib import Path

import aiohttp
import psutil
import pytest

from e2e.conftest import Installation
from e2e.test_interruption import LONG, has_checkpoint, long_job
from e2e.test_secrets import log_of
from e2e.user import User, condition, finished
from finetune_operator.kinds import FINE_TUNE_JOBS
from finetune_operator.kube.resources import EVENTS, PODS, SECRETS

SECRET = "train.py"
"""In the stack of every rank that trains."""
pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.skipif(not shutil.which("kubectl"), reason="reads logs with kubectl, which is not installed"),
]


def worker(installation: Installation, job: str, rank: int) -> psutil.Process:
    """The process that trains as this rank."""
    assert installation.process is not None
    for process in psutil.Process(installation.process.pid).children(recursive=True):
        if "--worker" in process.cmdline():
            environment = process.environ()
            if environment["RANK"] == str(rank) and environment["POD_NAME"].startswith(f"{job}-"):
                return process
    raise AssertionError(f"no worker of rank {rank} runs")


async def logs_of(user: User, installation: Installation, job: str) -> dict[str, str]:
    """Of every pod that there is now, to its end."""
    pods = [pod["metadata"]["name"] for pod in await user.list(PODS, f"finetune-operator.io/job={job}")]
    logs = await asyncio.gather(*(log_of(installation.kubeconfig, user.namespace, pod) for pod in pods))
    return dict(zip(pods, logs, strict=True))


async def test_a_stopped_rank_is_found_shown_and_replaced(user: User, installation: Installation) -> None:
    """And what its stacks spell of the job's secrets is shown nowhere."""
    if installation.process is None:
        pytest.skip("stops a local process: use kubectl exec on other clusters")
    data = {"DB_PASS": base64.b64encode(SECRET.encode()).decode()}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "hung"}, "data": data}
    await user.api.create(SECRETS, secret, user.namespace)
    body = long_job(
        "hung", credentials={"secretName": "hung"}, failurePolicy={"hangTimeoutSeconds": 10, "backoffSeconds": 0}
    )
    body["spec"]["training"] = LONG | {"evaluateEverySteps": LONG["maxSteps"]}  # ten seconds are for steps alone
    await user.apply(body)
    await user.until(FINE_TUNE_JOBS, "hung", has_checkpoint)
    logs = asyncio.create_task(logs_of(user, installation, "hung"))
    worker(installation, "hung", 1).send_signal(signal.SIGSTOP)
    job = await user.until(FINE_TUNE_JOBS, "hung", finished)
    assert condition(job, "Succeeded").get("status") == "True", job["status"]
    first, second = job["status"]["attempts"]
    assert (first["cause"], first["rank"], first["exitCode"]) == ("Hang", 1, 76), first
    stopped, waiting = first["stacks"]
    assert (stopped["rank"], waiting["rank"]) == (1, 0)
    assert stopped["state"].startswith("stopped by a signal (T")
    assert "[redacted]:" in waiting["text"], "the file that the secret names"
    assert second["resumedFromStep"] >= 10
    assert job["status"]["restarts"] == {"total": 1, "byCause": {"Hang": 1}}
    found = await logs
    assert any("stacks of rank 0" in log and '/[redacted]", line' in log for log in found.values()), found
    found |= {"job": json.dumps(job), "events": json.dumps(await user.list(EVENTS))}
    found["operator"] = Path(installation.kubeconfig).with_name("log").read_text()
    async with aiohttp.ClientSession() as session, session.get(installation.metrics_url) as answer:
        found["metrics"] = await answer.text()
    assert [place for place, text in found.items() if SECRET in text] == []
