"""Helm installs the chart into local mode, which enforces RBAC, and the operator works with its rights alone."""

import asyncio
import shutil
import subprocess
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from helm_python import Config

from charts.certificate import tls_secret
from charts.conftest import CHART, NAMESPACE, RELEASE, ROOT, values_file
from charts.stand_ins import fine_tune_job
from e2e.user import User, finished, is_true
from finetune_local.apiserver.cluster import LogRequest
from finetune_local.cluster import Cluster
from finetune_local.kubelet.logs import LogReader
from finetune_operator.kinds import FINE_TUNE_JOBS, MODEL_DEPLOYMENTS, MODEL_VERSIONS
from finetune_operator.kube.client import ApiError, HttpKubeApi
from finetune_operator.kube.resources import (
    CUSTOM_RESOURCE_DEFINITIONS,
    DEPLOYMENTS,
    EVENTS,
    LEASES,
    NAMESPACES,
    PERSISTENT_VOLUME_CLAIMS,
    PODS,
    SECRETS,
)

TEAM = "team-a"
PROGRESS_HOST = f"{RELEASE}-progress.{NAMESPACE}.svc"
WITHOUT_OTHER_CRDS = {
    "metrics": {"dashboard": {"enabled": True}},
    "webhooks": {"failurePolicy": "Fail"},
    "tls": {"certManager": {"enabled": False}},
}
SECONDS = 90


class Helm:
    """Helm with its default settings: release records are Secrets, sent as protobuf."""

    def __init__(self, cluster: Cluster) -> None:
        self._config = Config(kubeconfig_path=cluster.kubeconfig, namespace=NAMESPACE)

    async def install(self, values: dict[str, Any], *, wait: str | None = None) -> dict[str, Any]:
        return await asyncio.to_thread(
            self._config.install,
            str(CHART),
            RELEASE,
            values,
            namespace=NAMESPACE,
            create_namespace=True,
            wait=wait,
            timeout=SECONDS,
        )

    async def upgrade(self, values: dict[str, Any]) -> dict[str, Any]:
        return await asyncio.to_thread(
            self._config.upgrade, str(CHART), RELEASE, values, namespace=NAMESPACE, timeout=SECONDS
        )

    async def uninstall(self) -> None:
        await asyncio.to_thread(self._config.uninstall, RELEASE, timeout=SECONDS)

    def close(self) -> None:
        self._config.close()


@pytest_asyncio.fixture
async def objects_only() -> AsyncIterator[Cluster]:
    async with Cluster(pods="none") as cluster:
        yield cluster


@pytest_asyncio.fixture
async def cluster() -> AsyncIterator[Cluster]:
    async with Cluster() as cluster:
        for name in (NAMESPACE, "team-a", "team-b"):
            await cluster.api.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        await cluster.api.create(SECRETS, tls_secret("progress-tls", NAMESPACE, PROGRESS_HOST), NAMESPACE)
        yield cluster


async def replicas(cluster: Cluster) -> int:
    deployment = await cluster.api.get(DEPLOYMENTS, RELEASE, NAMESPACE)
    return int(deployment["spec"]["replicas"])


async def test_helm_installs_upgrades_and_removes_all_but_the_crds(objects_only: Cluster) -> None:
    helm = Helm(objects_only)
    try:
        assert (await helm.install({}))["status"] == "deployed"
        assert await replicas(objects_only) == 2
        await upgrade_crds(objects_only)
        release = await helm.upgrade(values_file("everything") | WITHOUT_OTHER_CRDS | {"fullnameOverride": RELEASE})
        assert release["revision"] == 2
        assert await replicas(objects_only) == 3
        await helm.uninstall()
    finally:
        helm.close()
    with pytest.raises(ApiError) as gone:
        await replicas(objects_only)
    assert gone.value.not_found
    crds = await objects_only.api.list(CUSTOM_RESOURCE_DEFINITIONS)
    assert len(crds["items"]) == 5


async def upgrade_crds(cluster: Cluster) -> None:
    """By the command of the notes and the documentation, when those in the cluster are others, as Helm wrote them."""
    command = "kubectl apply --server-side --force-conflicts -f charts/finetune-operator/crds"
    for page in ("charts/finetune-operator/templates/NOTES.txt", "docs/install.md"):
        assert command in (ROOT / page).read_text(), page
    if not shutil.which("kubectl"):
        return
    name = "finetunejobs.finetune-operator.io"
    current = await cluster.api.get(CUSTOM_RESOURCE_DEFINITIONS, name)
    older = current["spec"] | {
        "versions": [one | {"additionalPrinterColumns": []} for one in current["spec"]["versions"]]
    }
    await cluster.api.replace(CUSTOM_RESOURCE_DEFINITIONS, current | {"spec": older})
    arguments = [*command.split(), "--kubeconfig", str(cluster.kubeconfig)]
    result = await asyncio.to_thread(
        subprocess.run, arguments, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )
    assert result.returncode == 0, result.stderr
    assert (await cluster.api.get(CUSTOM_RESOURCE_DEFINITIONS, name))["spec"] == current["spec"]


@pytest.mark.skipif(not shutil.which("kubectl"), reason="needs kubectl")
async def test_kubectl_applies_the_kustomize_base_again_and_again(objects_only: Cluster) -> None:
    command = [
        "kubectl",
        "--kubeconfig",
        str(objects_only.kubeconfig),
        "apply",
        "--server-side",
        "-k",
        "manifests/base",
    ]
    for _ in range(2):
        result = await asyncio.to_thread(
            subprocess.run, command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
        )
        assert result.returncode == 0, result.stderr
    assert await replicas(objects_only) == 2


@pytest.mark.parametrize(
    "values",
    [
        pytest.param({}, id="default"),
        pytest.param(
            values_file("namespaced") | {"progress": {"tls": {"secretName": "progress-tls"}}}, id="namespaced"
        ),
    ],
)
async def test_the_installed_operator_takes_a_job_to_a_served_model_with_its_rights_alone(
    cluster: Cluster, values: dict[str, Any]
) -> None:
    helm = Helm(cluster)
    try:
        await helm.install(values, wait="watcher")
    finally:
        helm.close()
    lease = await cluster.api.get(LEASES, RELEASE, NAMESPACE)
    pods = (await cluster.api.list(PODS, NAMESPACE))["items"]
    assert lease["spec"]["holderIdentity"].partition("_")[0] in {pod["metadata"]["name"] for pod in pods}
    async with await HttpKubeApi.connect(str(cluster.kubeconfig)) as api:
        user = User(api, TEAM, "none")
        await a_wrong_job_is_refused(user)
        await take_a_job_to_a_served_model(user)
    assert await forbidden_requests(cluster, pods) == []


async def a_wrong_job_is_refused(user: User) -> None:
    """By the webhooks, through their Service, with the certificate that the operator made."""
    wrong = fine_tune_job("wrong", TEAM)
    wrong["spec"] = {name: value for name, value in wrong["spec"].items() if name not in ("checkpoint", "output")}
    with pytest.raises(ApiError, match="denied the request") as refused:
        await user.api.create(FINE_TUNE_JOBS, wrong, TEAM)
    causes = refused.value.body["details"]["causes"]
    assert {cause["field"] for cause in causes} == {"spec.checkpoint.storage", "spec.output.storage"}


async def take_a_job_to_a_served_model(user: User) -> None:
    claim = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}}
    metadata = {"name": "storage", "namespace": TEAM}
    body = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": claim}
    await user.api.create(PERSISTENT_VOLUME_CLAIMS, body, TEAM)
    await user.api.create(FINE_TUNE_JOBS, fine_tune_job("rights", TEAM), TEAM)
    job = await user.until(FINE_TUNE_JOBS, "rights", finished, SECONDS)
    assert job["status"]["phase"] == "Succeeded", job["status"]
    await user.until(MODEL_DEPLOYMENTS, "rights", is_true("Ready"), SECONDS)
    await user.until(FINE_TUNE_JOBS, "rights", reported, SECONDS)
    await user.api.get(MODEL_VERSIONS, job["status"]["modelVersion"], TEAM)
    regarding = {event["regarding"]["kind"] for event in (await user.api.list(EVENTS, TEAM))["items"]}
    assert "FineTuneJob" in regarding
    await user.api.patch(FINE_TUNE_JOBS, "rights", {"spec": {"ttlSecondsAfterFinished": 0}}, TEAM)
    async with asyncio.timeout(SECONDS):
        while await user.get(FINE_TUNE_JOBS, "rights"):
            await asyncio.sleep(0.1)


def reported(job: dict[str, Any]) -> bool:
    """The stand-in's report has reached the status."""
    return bool((job.get("status", {}).get("progress") or {}).get("step") == 7)


async def forbidden_requests(cluster: Cluster, pods: list[dict[str, Any]]) -> list[str]:
    """Lines of the operator's logs that speak of a right that it lacks."""
    kubelet = cluster.control_plane.kubelet
    assert kubelet
    lines: list[str] = []
    for pod in pods:
        request = LogRequest(NAMESPACE, pod["metadata"]["name"], "operator")
        log = b"".join([chunk async for chunk in LogReader(kubelet).read(request)]).decode()
        assert "finetune_operator" in log
        lines += log.splitlines()
    return [line for line in lines if "forbidden" in line.lower()]
