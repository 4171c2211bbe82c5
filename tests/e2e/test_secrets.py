"""Secrets that are planted in a job's credentials come up nowhere but in its pods' environment."""

import asyncio
import base64
import json
import shutil
from pathlib import Path

import pytest

from e2e.conftest import Installation
from e2e.user import KINDS, User, fine_tune_job, finished
from finetune_operator.kinds import FINE_TUNE_JOBS
from finetune_operator.kube.resources import CONFIG_MAPS, EVENTS, JOBS, NETWORK_POLICIES, PODS, SECRETS, SERVICES

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.skipif(not shutil.which("kubectl"), reason="reads logs with kubectl, which is not installed"),
]

PLANTED = {
    "AWS_ACCESS_KEY_ID": "PLANTEDACCESSKEY",
    "AWS_SECRET_ACCESS_KEY": "planted/secret+access+key",
    "HF_TOKEN": "hf_plantedtoken",
    # Where nobody listens; errors of storage name the endpoint.
    "AWS_ENDPOINT_URL": "http://planted-user:planted-password@127.0.0.1:9",
}
WORDS = ("PLANTEDACCESSKEY", "planted/secret+access+key", "hf_plantedtoken", "planted-password")


async def log_of(kubeconfig: str, namespace: str, pod: str) -> str:
    command = ["kubectl", "--kubeconfig", kubeconfig, "--namespace", namespace, "logs", pod]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    assert process.returncode == 0
    return output.decode()


async def test_no_secret_in_status_events_objects_or_logs(user: User, installation: Installation) -> None:
    data = {name: base64.b64encode(value.encode()).decode() for name, value in PLANTED.items()}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "planted"}, "data": data}
    await user.api.create(SECRETS, secret, user.namespace)
    body = fine_tune_job(
        "planted",
        credentials={"secretName": "planted"},
        output={"storage": "s3://models/out"},
        checkpoint={"storage": "s3://models/checkpoints", "everySteps": 10},
        failurePolicy={"maxRestarts": {"user": 0, "infrastructure": 0, "preemption": 0}},
    )
    body["spec"]["dataset"]["train"]["source"] = "s3://data/train.jsonl"
    await user.apply(body)
    job = await user.until(FINE_TUNE_JOBS, "planted", finished)
    assert "127.0.0.1:9" in json.dumps(job["status"]), job["status"]  # the error that names the endpoint did come
    kinds = [*KINDS.values(), CONFIG_MAPS, EVENTS, JOBS, NETWORK_POLICIES, PODS, SERVICES]
    found = {kind.kind: json.dumps(await user.list(kind)) for kind in kinds}
    for pod in await user.list(PODS, "finetune-operator.io/job=planted"):
        name = pod["metadata"]["name"]
        found[name] = await log_of(installation.kubeconfig, user.namespace, name)
    assert any("finetune_trainer" in text for text in found.values())
    if installation.process is not None:
        found["operator"] = Path(installation.kubeconfig).with_name("log").read_text()
    leaks = {place: word for place, text in found.items() for word in WORDS if word in text}
    assert leaks == {}
