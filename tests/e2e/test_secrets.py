"""Secrets that are planted in jobs' credentials come up nowhere but in their pods' environment, however they fail.

The jobs are applied first and wait for the Secret, which the operator sees come without a right to list Secrets.
"""

import asyncio
import base64
import json
import shutil
from pathlib import Path

import aiohttp
import pytest

from e2e.conftest import Installation
from e2e.user import KINDS, Body, User, condition, fine_tune_job, finished
from finetune_operator.kinds import FINE_TUNE_JOBS, TRAINING_RUNTIMES
from finetune_operator.kube.resources import EVENTS, NETWORK_POLICIES, PODS, SECRETS

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.skipif(not shutil.which("kubectl"), reason="reads logs with kubectl, which is not installed"),
]

PLANTED = {
    "AWS_ACCESS_KEY_ID": "PLANTEDACCESSKEY",
    "AWS_SECRET_ACCESS_KEY": "planted/secret+access+key",
    "HF_TOKEN": "hf_plantedtoken",
    "AZURE_STORAGE_KEY": "plantedAzureKey==",
    "AZURE_STORAGE_CONNECTION_STRING": "AccountName=me;AccountKey=plantedInConnection==;EndpointSuffix=x",
    "DB_PASS": "planted-pass",
    "PRIVATE_KEY": "-----BEGIN PRIVATE KEY-----\nMIIEvplantedpem\n-----END PRIVATE KEY-----\n",
    # Where nobody listens; errors of storage name the endpoint.
    "AWS_ENDPOINT_URL": "http://planted-user:planted-password@127.0.0.1:9",
}
WORDS = (
    "PLANTEDACCESSKEY", "planted/secret", "hf_plantedtoken", "plantedAzureKey", "plantedInConnection", "planted-pass",
    "MIIEvplantedpem", "planted-password",
)  # fmt: skip
LEAKY_MODEL = """
import json, shutil
from pathlib import Path

folder = Path("/mnt/pvc/e2e/leaky")
shutil.copytree("/mnt/pvc/e2e/model", folder)
config = json.loads((folder / "config.json").read_text())
config |= {"model_type": "leaky", "auto_map": {"AutoConfig": "leaky.LeakyConfig"}}
(folder / "config.json").write_text(json.dumps(config))
(folder / "leaky.py").write_text('''
import os

print(dict(os.environ), flush=True)
print(os.environ["PRIVATE_KEY"], flush=True)
os.write(2, b"from beneath Python: " + os.environ["DB_PASS"].encode() + os.linesep.encode())
raise RuntimeError("cannot connect with " + os.environ["DB_PASS"] + " of " + os.environ["AZURE_STORAGE_KEY"])
''')
"""
FOREIGN, NOWHERE = "before-the-trainer", "never-placed"
ONCE = {"maxRestarts": {"user": 0, "infrastructure": 0, "preemption": 0}}


def leaving(name: str, **changes: object) -> Body:
    """A job of one pod with the planted secrets."""
    common = {"credentials": {"secretName": "planted"}, "failurePolicy": ONCE, "distributed": {"nodes": 1}}
    return fine_tune_job(name, **common | changes)


def without_storage() -> Body:
    """A library names the endpoint, with user and password, in its error."""
    storage = {"output": {"storage": "s3://models/out"}, "checkpoint": {"storage": "s3://models/c", "everySteps": 10}}
    return leaving("without-storage", **storage, training={"maxSteps": 5, "batchSize": 24})


def of_a_user() -> Body:
    """The user's own code prints what it finds in the environment, and crashes with some of it in its message."""
    model = {"source": "pvc://e2e/leaky", "trustRemoteCode": True}
    return leaving("of-a-user", model=model, runtimeRef={"kind": "TrainingRuntime", "name": "trusting"})


def before_the_trainer() -> Body:
    """The trainer never runs: the end of the log, an env dump, is all that the kubelet has to say."""
    dump = "import os; print('\\n'.join(map('='.join, os.environ.items()))); raise SystemExit(3)"
    container = {"name": "trainer", "command": ["python", "-c", dump]}
    return leaving(FOREIGN, podTemplate={"spec": {"containers": [container]}})


def of_another_authority() -> Body:
    """The operator's certificate is not one that the pod trusts: it trains, and tells the operator nothing."""
    container = {"name": "trainer", "env": [{"name": "FINETUNE_PROGRESS_CA_FILE", "value": ""}]}
    training = {"maxSteps": 5, "batchSize": 24}
    return leaving("of-another-authority", training=training, podTemplate={"spec": {"containers": [container]}})


def never_placed() -> Body:
    """The pod that looks ahead is all that runs."""
    nowhere = {"limits": {"e2e.finetune-operator.io/device": 1, "memory": "512Mi"}}
    body = leaving(NOWHERE, resources=nowhere)
    body["spec"]["dataset"]["train"]["source"] = "s3://data/train.jsonl"
    return body


def waits_for_its_secret(job: Body) -> bool:
    told = condition(job, "Validated")
    return told.get("reason") == "SecretNotFound" and "there is no Secret 'planted'" in told["message"]


def failed_or_looked_at(job: Body) -> bool:
    if job["metadata"]["name"] != NOWHERE:
        return finished(job)
    return condition(job, "Preflight").get("reason") == "StorageUnavailable"


async def log_of(kubeconfig: str, namespace: str, pod: str) -> str:
    """Followed to its end: a gang that has failed may be gone the next moment."""
    command = ["kubectl", "--kubeconfig", kubeconfig, "--namespace", namespace, "logs", "--follow", pod]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    assert process.returncode == 0
    return output.decode()


async def started_pod(user: User, job: str) -> Body:
    """The first one that runs for a job."""
    async with asyncio.timeout(60):
        while True:
            for pod in await user.list(PODS, f"finetune-operator.io/job={job}"):
                if pod["status"]["phase"] != "Pending":
                    return pod
            await asyncio.sleep(0.1)


async def outcome(user: User, kubeconfig: str, name: str) -> tuple[Body, dict[str, str]]:
    """The status that a job came to, and all that a pod of it said and showed."""
    said = {}
    # What a program that is none of ours prints is the kubelet's to show: there only the operator can mask.
    if name != FOREIGN:
        pod = (await started_pod(user, name))["metadata"]["name"]
        said = {f"log of {name}": await log_of(kubeconfig, user.namespace, pod)}
        said[f"pods of {name}"] = json.dumps(await user.list(PODS, f"finetune-operator.io/job={name}"))
    return (await user.until(FINE_TUNE_JOBS, name, failed_or_looked_at, 120))["status"], said


@pytest.fixture(scope="module")
def jobs() -> list[Body]:
    return [without_storage(), of_a_user(), before_the_trainer(), never_placed(), of_another_authority()]


async def test_no_secret_in_status_events_objects_metrics_or_logs(
    user: User, installation: Installation, jobs: list[Body]
) -> None:
    runtime = {"apiVersion": TRAINING_RUNTIMES.api_version, "kind": TRAINING_RUNTIMES.kind}
    runtime |= {"metadata": {"name": "trusting"}, "spec": {"allowTrustRemoteCode": True}}
    await user.api.create(TRAINING_RUNTIMES, runtime, user.namespace)
    await user.run("leaky-model", LEAKY_MODEL)
    names = [body["metadata"]["name"] for body in jobs]
    for body in jobs:
        await user.apply(body)
    for name in names:
        await user.until(FINE_TUNE_JOBS, name, waits_for_its_secret, 15)
    data = {name: base64.b64encode(value.encode()).decode() for name, value in PLANTED.items()}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "planted"}, "data": data}
    await user.api.create(SECRETS, secret, user.namespace)
    outcomes = await asyncio.gather(*(outcome(user, installation.kubeconfig, name) for name in names))
    states = [state for state, _ in outcomes]
    for state, telling in zip(
        map(json.dumps, states), ("127.0.0.1:9", "cannot connect", "LANG=", "127.0.0.1:9", "Succeeded"), strict=True
    ):
        assert telling in state, state  # it did fail in this way
    objects = [kind for kind in (*KINDS.values(), EVENTS, NETWORK_POLICIES) if kind != PODS]
    found = {kind.kind: json.dumps(await user.list(kind)) for kind in objects}
    for _, said in outcomes:
        found |= said
    assert "from beneath Python: [redacted]" in found["log of of-a-user"]
    assert "shows a certificate that is not trusted" in found["log of of-another-authority"]
    assert "step" not in (states[-1].get("progress") or {}), "nothing was told"
    if installation.process is not None:
        found["operator"] = Path(installation.kubeconfig).with_name("log").read_text()
        async with aiohttp.ClientSession() as session, session.get(installation.metrics_url) as answer:
            found["metrics"] = await answer.text()
    leaks = {place: word for place, text in found.items() for word in WORDS if word in text}
    assert leaks == {}
    for name in names:
        await user.delete(FINE_TUNE_JOBS, name)
