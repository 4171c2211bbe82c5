"""A whole local cluster: gangs, Services, logs, state between runs, and its end."""

import asyncio
import os
import signal
import sys
import textwrap
from asyncio.subprocess import DEVNULL, PIPE
from pathlib import Path

import aiohttp
import pytest

from finetune_local.cluster import Cluster, StateInUseError
from finetune_local.knobs import Knobs
from finetune_local.network.service_proxy import URL_ANNOTATION
from finetune_operator.kube.client import HttpKubeApi
from finetune_operator.kube.resources import CONFIG_MAPS, JOBS, PODS, SERVICES
from local.clusters import has_condition, job, log_of, pod, pods_of, run_job, terminated, wait_for
from local.kubelet.test_sandbox import until_gone, until_there

GANG = {
    "metadata": {"name": "gang"},
    "spec": {"clusterIP": "None", "selector": {"job-name": "gang"}, "publishNotReadyAddresses": True},
}
SERVER = """
import http.server, os
class Hello(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(os.environ["HOSTNAME"].encode())
http.server.ThreadingHTTPServer(("0.0.0.0", 8080), Hello).serve_forever()
"""


async def test_the_pods_of_an_indexed_job_find_each_other_and_share_a_folder(cluster: Cluster) -> None:
    await cluster.api.create(SERVICES, GANG, "default")
    config = {"metadata": {"name": "config"}, "data": {"job.json": '{"a": 1}'}}
    await cluster.api.create(CONFIG_MAPS, config, "default")
    script = """
        cat /etc/finetune/job.json; echo; echo index $JOB_COMPLETION_INDEX of $(hostname)
        find() { getent hosts $1 > /dev/null; }
        until find gang-0.gang.default.svc && find gang-1.gang; do sleep 0.05; done
        touch /shared/$JOB_COMPLETION_INDEX; until test -e /shared/0 -a -e /shared/1; do sleep 0.05; done
        printf done > /dev/termination-log
    """
    shared = {"path": str(cluster.folder / "shared"), "type": "DirectoryOrCreate"}
    volumes = [{"name": "config", "configMap": {"name": "config"}}, {"name": "shared", "hostPath": shared}]
    template = {"subdomain": "gang", "volumes": volumes}
    body = job("gang", script, completions=2, parallelism=2, completionMode="Indexed", template=template)
    body["spec"]["template"]["spec"]["containers"][0]["volumeMounts"] = [
        {"name": "config", "mountPath": "/etc/finetune"},
        {"name": "shared", "mountPath": "/shared"},
    ]
    finished = await run_job(cluster, body)
    assert [one["type"] for one in finished["status"]["conditions"]] == ["SuccessCriteriaMet", "Complete"]
    assert finished["status"]["completedIndexes"] == "0,1"
    pods = sorted(await pods_of(cluster, "job-name=gang"), key=lambda one: str(one["metadata"]["name"]))
    assert [(terminated(one) or {})["message"] for one in pods] == ["done", "done"]
    assert log_of(cluster, pods[1]) == '{"a": 1}\nindex 1 of gang-1\n'


async def test_two_servers_on_one_port_answer_through_their_service(cluster: Cluster) -> None:
    service = {
        "metadata": {"name": "hello"},
        "spec": {"selector": {"tier": "web"}, "ports": [{"port": 8000, "targetPort": "web"}]},
    }
    await cluster.api.create(SERVICES, service, "default")
    for name in ("one", "two"):
        container = {
            "command": [sys.executable, "-c", SERVER],
            "ports": [{"name": "web", "containerPort": 8080}],
            "readinessProbe": {"httpGet": {"port": "web"}, "periodSeconds": 1},
        }
        body = pod(name, "", container=container, hostname=name)
        body["metadata"]["labels"]["tier"] = "web"
        await cluster.api.create(PODS, body, "default")
    for name in ("one", "two"):
        await wait_for(cluster, PODS, name, has_condition("Ready"))
    annotated = await wait_for(
        cluster, SERVICES, "hello", lambda item: URL_ANNOTATION in (item["metadata"].get("annotations") or {})
    )
    url = annotated["metadata"]["annotations"][URL_ANNOTATION]
    assert cluster.service_urls() == {"default/hello": url}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session:
        answers = set()
        for _ in range(6):
            async with session.get(url) as answer:
                answers.add(await answer.text())
    assert answers == {"one", "two"}
    script = f"{sys.executable} -S -c \"import urllib.request as r; r.urlopen('http://hello:8000').read()\""
    await cluster.api.create(PODS, pod("client", script), "default")
    await wait_for(cluster, PODS, "client", lambda item: (item.get("status") or {}).get("phase") == "Succeeded")


async def test_a_name_that_does_not_exist_fails_at_once(cluster: Cluster) -> None:
    code = "import socket, time; t = time.monotonic()\ntry: socket.getaddrinfo('no.such.svc', 1)\n"
    code += "except socket.gaierror: print(time.monotonic() - t < 1)"
    await cluster.api.create(PODS, pod("asker", "", container={"command": [sys.executable, "-c", code]}), "default")
    ended = await wait_for(cluster, PODS, "asker", lambda item: (item.get("status") or {}).get("phase") == "Succeeded")
    assert log_of(cluster, ended) == "True\n"


async def test_logs_are_served_and_followed(cluster: Cluster) -> None:
    await cluster.api.create(PODS, pod("talker", "for i in 1 2 3 4 5; do echo $i; sleep 0.1; done"), "default")
    await wait_for(cluster, PODS, "talker", has_condition("Ready"))
    headers = {"Authorization": f"Bearer {cluster.server.admin_token}"}
    url = f"{cluster.url}/api/v1/namespaces/default/pods/talker/log"
    async with aiohttp.ClientSession(headers=headers) as session:
        async with session.get(url, params={"follow": "true"}, ssl=False) as answer:
            assert await answer.text() == "1\n2\n3\n4\n5\n"
        async with session.get(url, params={"tailLines": "2"}, ssl=False) as answer:
            assert await answer.text() == "4\n5\n"
        async with session.get(url, params={"previous": "true"}, ssl=False) as answer:
            assert answer.status == 400


async def test_a_followed_log_is_told_to_its_end_when_its_pod_is_deleted(cluster: Cluster) -> None:
    await cluster.api.create(PODS, pod("leaver", "trap 'echo gone; exit' TERM; echo up; sleep 600 & wait"), "default")
    await wait_for(cluster, PODS, "leaver", has_condition("Ready"))
    url = f"{cluster.url}/api/v1/namespaces/default/pods/leaver/log?follow=true"
    headers = {"Authorization": f"Bearer {cluster.server.admin_token}"}
    async with aiohttp.ClientSession(headers=headers) as session, session.get(url, ssl=False) as answer:
        assert await answer.content.readline() == b"up\n"
        await cluster.api.delete(PODS, "leaver", "default")
        assert await answer.text() == "gone\n"


async def test_objects_and_volumes_are_kept_in_the_state_folder(tmp_path: Path) -> None:
    data = tmp_path / "data"
    async with Cluster(state_dir=tmp_path / "state", claims={"ml/data": data}) as cluster:
        claims = {"name": "d", "persistentVolumeClaim": {"claimName": "data"}}
        mounted = {"volumeMounts": [{"name": "d", "mountPath": "/mnt/pvc/data"}]}
        body = pod("writer", "echo kept > /mnt/pvc/data/file", container=mounted, volumes=[claims])
        await cluster.api.create(PODS, body, "ml")
        await wait_for(
            cluster,
            PODS,
            "writer",
            lambda item: (item.get("status") or {}).get("phase") == "Succeeded",
            namespace="ml",
        )
        with pytest.raises(StateInUseError, match="in use"):
            await Cluster(state_dir=tmp_path / "state").start()
    assert (data / "file").read_text() == "kept\n"
    async with Cluster(state_dir=tmp_path / "state") as cluster:
        again = await cluster.api.get(PODS, "writer", "ml")
        assert again["status"]["phase"] == "Succeeded"


async def test_running_pods_of_an_earlier_run_are_started_again_or_failed(tmp_path: Path) -> None:
    async with Cluster(state_dir=tmp_path) as cluster:
        await cluster.api.create(PODS, pod("once", "sleep 600"), "default")
        await cluster.api.create(PODS, pod("ever", "sleep 600", restartPolicy="Always"), "default")
        for name in ("once", "ever"):
            await wait_for(cluster, PODS, name, has_condition("Ready"))
    async with Cluster(state_dir=tmp_path) as cluster:
        lost = await wait_for(cluster, PODS, "once", lambda item: item["status"]["phase"] == "Failed")
        assert (terminated(lost) or {})["reason"] == "ContainerStatusUnknown"
        kubelet = cluster.control_plane.kubelet
        assert kubelet is not None
        worker = kubelet.worker("default", "ever")
        await wait_for(cluster, PODS, "ever", lambda item: has_condition("Ready")(item) and worker.record.ip)


async def test_the_kubeconfig_lets_clients_in(cluster: Cluster) -> None:
    api = await HttpKubeApi.connect(str(cluster.kubeconfig))
    try:
        assert (await api.list(PODS, "default"))["items"] == []
    finally:
        await api.close()


async def test_stopping_ends_every_process_and_removes_the_folder() -> None:
    marker = f"6{os.getpid()}1.5"
    async with Cluster() as cluster:
        await cluster.api.create(PODS, pod("p", f"trap '' TERM; sleep {marker} & wait"), "default")
        await wait_for(cluster, PODS, "p", has_condition("Ready"))
        await until_there(f"sleep\0{marker}")
        folder = cluster.folder
    await until_gone(f"sleep\0{marker}")
    assert not folder.exists()


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
async def test_no_process_outlives_the_command(tmp_path: Path, end: signal.Signals) -> None:
    marker = f"5{os.getpid()}2.{int(end)}"
    program = textwrap.dedent(f"""
        import asyncio, sys
        sys.path[:0] = {[str(Path(__file__).parents[1])]!r}
        from finetune_local.cluster import Cluster
        from finetune_operator.kube.resources import PODS
        from local.clusters import pod
        async def main():
            async with Cluster(state_dir={str(tmp_path)!r}) as cluster:
                script = "trap '' TERM INT; setsid sleep {marker} & (setsid setsid sleep {marker} &); sleep {marker}"
                await cluster.api.create(PODS, pod("p", script), "default")
                await asyncio.Event().wait()
        asyncio.run(main())
    """)
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=DEVNULL, stderr=PIPE)
    try:
        await until_there(f"sleep\0{marker}", count=3, seconds=30)
        parent.send_signal(end)
        await until_gone(f"sleep\0{marker}")
    finally:
        if parent.returncode is None:
            parent.kill()
        await parent.wait()


async def test_many_jobs_finish_with_stubbed_pods() -> None:
    async with Cluster(pods="stubbed", knobs=Knobs(stubbed_run=0.0)) as cluster:
        for number in range(50):
            body = job(f"j{number}", "", completions=2, parallelism=2, completionMode="Indexed")
            await cluster.api.create(JOBS, body, "default")
        for number in range(50):
            await wait_for(cluster, JOBS, f"j{number}", has_condition("Complete"), seconds=60)
