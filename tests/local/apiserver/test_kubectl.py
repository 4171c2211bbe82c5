"""The machine's own kubectl against the server."""

import asyncio
import pathlib
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import yaml

from finetune_local.apiserver import ApiServer, LogRequest
from finetune_operator.kube.resources import CONFIG_MAPS, DEPLOYMENTS, PODS
from local.apiserver.objects import config_map, container, definition, deployment, job, pod

pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
Kubectl = Callable[..., Awaitable[str]]


class KubectlError(AssertionError):
    pass


@pytest.fixture
async def https_server() -> AsyncIterator[ApiServer]:
    async with ApiServer() as server:
        yield server


@pytest.fixture
def kubectl(https_server: ApiServer, tmp_path: pathlib.Path) -> Kubectl:
    kubeconfig = https_server.write_kubeconfig(tmp_path / "kubeconfig")

    async def run(*arguments: str, stdin: str = "") -> str:
        process = await asyncio.create_subprocess_exec(
            "kubectl",
            f"--kubeconfig={kubeconfig}",
            f"--cache-dir={tmp_path / 'cache'}",
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        output, errors = await process.communicate(stdin.encode())
        if process.returncode:
            raise KubectlError(f"kubectl {' '.join(arguments)}: {errors.decode()}")
        return output.decode()

    return run


def manifest(*objects: object) -> str:
    return yaml.safe_dump_all(objects)


async def test_apply_is_repeatable_and_prunes_what_left_the_file(kubectl: Kubectl, https_server: ApiServer) -> None:
    body = deployment("web", replicas=2)
    assert "created" in await kubectl("apply", "-f", "-", stdin=manifest(body))
    assert "unchanged" in await kubectl("apply", "-f", "-", stdin=manifest(body))
    two = [container(env=[{"name": "A", "value": "1"}]), container("sidecar")]
    body["spec"]["template"]["spec"]["containers"] = two
    await kubectl("apply", "-f", "-", stdin=manifest(body))
    body["spec"]["template"]["spec"]["containers"] = two[1:]
    del body["spec"]["replicas"]
    assert "configured" in await kubectl("apply", "-f", "-", stdin=manifest(body))
    spec = (await https_server.api.get(DEPLOYMENTS, "web", "default"))["spec"]
    assert [one["name"] for one in spec["template"]["spec"]["containers"]] == ["sidecar"]
    assert spec["replicas"] == 1


async def test_apply_refuses_unknown_fields(kubectl: Kubectl) -> None:
    with pytest.raises(KubectlError, match=r"strict decoding error: unknown field \"spec\.replicaz\""):
        await kubectl("apply", "-f", "-", stdin=manifest(deployment("web", replicaz=1)))


async def test_server_side_apply_tells_conflicts(kubectl: Kubectl, https_server: ApiServer) -> None:
    await https_server.api.apply(
        CONFIG_MAPS, config_map("a", k="1") | {"metadata": {"name": "a", "namespace": "default"}}, field_manager="one"
    )
    other = manifest(config_map("a", k="2"))
    with pytest.raises(KubectlError, match=r"conflict with \"one\": \.data\.k"):
        await kubectl("apply", "--server-side", "-f", "-", stdin=other)
    await kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=other)
    assert (await https_server.api.get(CONFIG_MAPS, "a", "default"))["data"] == {"k": "2"}


async def test_get_shows_columns(kubectl: Kubectl) -> None:
    await kubectl("apply", "-f", "-", stdin=manifest(job("j"), deployment("web"), pod("p")))
    assert (await kubectl("get", "jobs")).split()[:5] == ["NAME", "STATUS", "COMPLETIONS", "DURATION", "AGE"]
    lines = (await kubectl("get", "pods", "-o", "wide")).splitlines()
    assert lines[0].split()[:7] == ["NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP", "NODE"]
    assert lines[1].split()[:4] == ["p", "0/1", "Pending", "0"]
    assert "deployment.apps/web" in await kubectl("get", "all")
    assert await kubectl("get", "pod", "p", "-o", "jsonpath={.spec.restartPolicy}") == "Always"


async def test_describe_and_events(kubectl: Kubectl, https_server: ApiServer) -> None:
    await kubectl("apply", "-f", "-", stdin=manifest(pod("p"), job("j"), deployment("web")))
    uid = (await https_server.api.get(PODS, "p", "default"))["metadata"]["uid"]
    event = {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": "e", "namespace": "default"},
        "eventTime": "2026-01-01T00:00:00.000000Z",
        "regarding": {"kind": "Pod", "name": "p", "namespace": "default", "uid": uid},
        "note": "the reason why",
        "reason": "Explained",
        "type": "Warning",
        "action": "Explain",
        "reportingController": "test",
        "reportingInstance": "test",
    }
    await kubectl("create", "-f", "-", stdin=manifest(event))
    assert "the reason why" in await kubectl("describe", "pod", "p")
    for sorting in ((), ("--sort-by=.lastTimestamp",)):
        header, explained = (await kubectl("get", "events", *sorting)).splitlines()
        assert header.split() == ["LAST", "SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"]
        assert explained.split()[1:] == ["Warning", "Explained", "pod/p", "the", "reason", "why"]
    assert (await kubectl("get", "events", "-o", "name")).split() == ["event/e"]
    assert "Completions:" in await kubectl("describe", "job", "j")
    assert "StrategyType:" in await kubectl("describe", "deployment", "web")


async def test_edits_labels_scale_and_delete(kubectl: Kubectl) -> None:
    await kubectl("apply", "-f", "-", stdin=manifest(deployment("web")))
    await kubectl("scale", "deployment/web", "--replicas=4")
    await kubectl("annotate", "deployment/web", "note=x")
    await kubectl("label", "deployment/web", "tier=front")
    image = '{"spec":{"template":{"spec":{"containers":[{"name":"main","image":"new:2"}]}}}}'
    await kubectl("patch", "deployment", "web", "-p", image)
    path = "jsonpath={.spec.replicas} {.metadata.annotations.note} {.spec.template.spec.containers[0].image}"
    assert (
        await kubectl("get", "deployment", "-l", "tier=front", "-o", path.replace("{.", "{.items[0].")) == "4 x new:2"
    )
    await kubectl("delete", "deployment", "web")
    assert await kubectl("get", "deployments", "-o", "name") == ""


async def test_custom_resources_are_explained_waited_for_and_listed(kubectl: Kubectl) -> None:
    schema = {"type": "object", "properties": {"size": {"type": "integer", "description": "How large it is."}}}
    crd = definition("things", "Thing", schema)
    crd["spec"]["names"]["shortNames"] = ["th"]
    await kubectl("apply", "-f", "-", stdin=manifest(crd))
    await kubectl("wait", "--for=condition=Established", "crd/things.test.example.com", "--timeout=5s")
    assert "How large it is." in await kubectl("explain", "thing.spec.size")
    assert "Thing" in await kubectl("api-resources", "--api-group=test.example.com")
    thing = {"apiVersion": "test.example.com/v1", "kind": "Thing", "metadata": {"name": "t"}, "spec": {"size": 1}}
    await kubectl("apply", "-f", "-", stdin=manifest(thing))
    assert (await kubectl("get", "th")).splitlines()[1].startswith("t ")
    with pytest.raises(KubectlError, match=r"must be of type integer"):
        await kubectl("apply", "-f", "-", stdin=manifest(thing | {"spec": {"size": "x"}}))


async def test_explain_built_in_fields(kubectl: Kubectl) -> None:
    assert "FIELD: backoffLimit <integer>" in await kubectl("explain", "job.spec.backoffLimit")


async def test_dry_runs_and_access_questions(kubectl: Kubectl) -> None:
    assert "created (server dry run)" in await kubectl(
        "create", "-f", "-", "--dry-run=server", stdin=manifest(pod("p"))
    )
    assert "NAME" not in await kubectl("get", "pods")
    created = await kubectl(
        "create", "configmap", "c", "--from-literal=a=b", "--dry-run=server", "-o", "jsonpath={.data}"
    )
    assert created == '{"a":"b"}'
    assert (await kubectl("auth", "can-i", "create", "pods")).strip() == "yes"
    await kubectl("create", "serviceaccount", "robot")
    assert (await kubectl("create", "token", "robot")).count(".") == 2
    with pytest.raises(KubectlError):
        await kubectl("auth", "can-i", "create", "pods", "--as=system:serviceaccount:default:robot")


async def test_watches_print_as_things_happen(kubectl: Kubectl, https_server: ApiServer) -> None:
    watching = asyncio.create_task(kubectl("get", "configmaps", "-w", "--request-timeout=3s", "-o", "name"))
    while not https_server.cluster.watchers:
        await asyncio.sleep(0.05)
    await https_server.api.create(CONFIG_MAPS, config_map("appears"), "default")
    assert "configmap/appears" in await watching


async def test_logs_come_from_the_kubelet(kubectl: Kubectl, https_server: ApiServer) -> None:
    asked: list[LogRequest] = []

    async def provide(request: LogRequest) -> AsyncIterator[bytes]:
        asked.append(request)
        yield b"first\n"
        yield b"second\n"

    await kubectl("apply", "-f", "-", stdin=manifest(pod("p")))
    https_server.set_log_provider(provide)
    assert await kubectl("logs", "p", "--tail=5", "-f", "--timestamps", "--previous") == "first\nsecond\n"
    assert asked == [LogRequest("default", "p", "main", follow=True, previous=True, timestamps=True, tail_lines=5)]
    with pytest.raises(KubectlError, match="container nope is not valid for pod p"):
        await kubectl("logs", "p", "-c", "nope")
