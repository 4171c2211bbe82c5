"""Pods of a whole cluster, as real processes."""

import base64
import json
import sys
import time
from typing import Any

from finetune_local.cluster import Cluster
from finetune_local.controllers.nodes import VirtualNode
from finetune_operator.kube.resources import CONFIG_MAPS, EVENTS, PERSISTENT_VOLUME_CLAIMS, PODS, SECRETS
from local.clusters import has_condition, log_of, pod, terminated, wait_for, wait_gone, wait_log

Object = dict[str, Any]
PYTHON = [sys.executable, "-S", "-c"]


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


async def run(cluster: Cluster, body: Object) -> Object:
    """Creates a pod and waits for its end."""
    await cluster.api.create(PODS, body, "default")
    ended = lambda item: (item.get("status") or {}).get("phase") in ("Succeeded", "Failed")  # noqa: E731
    return await wait_for(cluster, PODS, body["metadata"]["name"], ended)


def phase_is(phase: str) -> Any:
    return lambda item: (item.get("status") or {}).get("phase") == phase


def waiting_reason(item: Object) -> str:
    statuses = (item.get("status") or {}).get("containerStatuses") or [{}]
    return ((statuses[0].get("state") or {}).get("waiting") or {}).get("reason", "")


async def test_environment_comes_from_all_sources(cluster: Cluster) -> None:
    await cluster.api.create(
        CONFIG_MAPS, {"metadata": {"name": "settings"}, "data": {"COLOR": "blue", "size": "4"}}, "default"
    )
    await cluster.api.create(SECRETS, {"metadata": {"name": "keys"}, "data": {"KEY": encoded("s3cret")}}, "default")
    env = [
        {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        {"name": "TIER", "valueFrom": {"fieldRef": {"fieldPath": "metadata.annotations['example.com/tier']"}}},
        {"name": "MEMORY", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}},
        {"name": "SIZE", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "size"}}},
        {"name": "MAYBE", "valueFrom": {"configMapKeyRef": {"name": "none", "key": "x", "optional": True}}},
        {"name": "BOTH", "value": "$(NAME)-$(SIZE)-$$(SIZE)-$(UNKNOWN)"},
    ]
    container = {
        "command": ["sh", "-c"],
        "args": ['echo "$NAME|$NODE|$TIER|$MEMORY|$SIZE|${MAYBE-unset}|$BOTH|$COLOR|$KEY|$(SIZE)"; echo $IP'],
        "env": env,
        "envFrom": [{"configMapRef": {"name": "settings"}}, {"secretRef": {"name": "keys"}}],
        "resources": {"limits": {"memory": "64Mi"}},
    }
    body = pod("env", "", container=container)
    body["metadata"]["annotations"] = {"example.com/tier": "gold"}
    ended = await run(cluster, body)
    line, ip = log_of(cluster, ended).splitlines()
    assert line == "env|local|gold|64|4|unset|env-4-$(SIZE)-$(UNKNOWN)|blue|s3cret|4"
    assert ip == ended["status"]["podIP"]
    assert ip.startswith("127.")


async def test_missing_config_map_holds_the_container_until_it_comes(cluster: Cluster) -> None:
    env = [{"name": "X", "valueFrom": {"configMapKeyRef": {"name": "late", "key": "x"}}}]
    await cluster.api.create(PODS, pod("held", "test $X = 1", container={"env": env}), "default")
    held = await wait_for(cluster, PODS, "held", lambda item: waiting_reason(item) == "CreateContainerConfigError")
    assert 'configmap "late" not found' in held["status"]["containerStatuses"][0]["state"]["waiting"]["message"]
    await cluster.api.create(CONFIG_MAPS, {"metadata": {"name": "late"}, "data": {"x": "1"}}, "default")
    await wait_for(cluster, PODS, "held", phase_is("Succeeded"))


async def test_a_container_without_command_says_what_to_do(cluster: Cluster) -> None:
    body = pod("entrypoint", "")
    del body["spec"]["containers"][0]["command"]
    await cluster.api.create(PODS, body, "default")
    held = await wait_for(cluster, PODS, "entrypoint", lambda item: waiting_reason(item) == "CreateContainerError")
    assert "set `command`" in held["status"]["containerStatuses"][0]["state"]["waiting"]["message"]


async def test_volumes_of_every_kind(cluster: Cluster) -> None:
    await cluster.api.create(CONFIG_MAPS, {"metadata": {"name": "c"}, "data": {"a.txt": "A", "b.txt": "B"}}, "default")
    await cluster.api.create(SECRETS, {"metadata": {"name": "s"}, "data": {"k": encoded("S")}}, "default")
    claim = {
        "metadata": {"name": "models"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    await cluster.api.create(PERSISTENT_VOLUME_CLAIMS, claim, "default")
    sources = [
        {"configMap": {"name": "c", "items": [{"key": "a.txt", "path": "sub/a"}]}},
        {"secret": {"name": "s"}},
        {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
        {"serviceAccountToken": {"path": "token", "audience": "me", "expirationSeconds": 600}},
    ]
    volumes = [
        {"name": "config", "configMap": {"name": "c"}},
        {"name": "secret", "secret": {"secretName": "s"}},
        {"name": "all", "projected": {"sources": sources}},
        {"name": "scratch", "emptyDir": {}},
        {"name": "memory", "emptyDir": {"medium": "Memory", "sizeLimit": "16Mi"}},
        {"name": "claim", "persistentVolumeClaim": {"claimName": "models"}},
    ]
    paths = {
        "config": "/etc/c",
        "secret": "/etc/s",
        "all": "/all",
        "scratch": "/scratch",
        "memory": "/dev/shm",
        "claim": "/mnt/pvc/models",
    }
    mounts = [{"name": name, "mountPath": path} for name, path in paths.items()]
    script = """
        cat /etc/c/a.txt /etc/c/b.txt /etc/s/k /all/sub/a /all/k /all/labels; echo
        touch /scratch/x /dev/shm/y && echo kept > /mnt/pvc/models/file
        touch /etc/c/z 2>/dev/null || echo read-only; cut -d. -f2 /all/token
    """
    ended = await run(cluster, pod("volumes", script, container={"volumeMounts": mounts}, volumes=volumes))
    lines = log_of(cluster, ended).splitlines()
    assert lines[:2] == ['ABSASapp="volumes"', "read-only"]
    claims = json.loads(base64.urlsafe_b64decode(lines[2] + "=="))
    assert claims["aud"] == ["me"]
    assert claims["kubernetes.io"]["pod"]["uid"] == ended["metadata"]["uid"]
    assert (cluster.control_plane.claim_folders.path("default", "models") / "file").read_text() == "kept\n"


async def test_the_default_token_works_against_the_api_server(cluster: Cluster) -> None:
    code = """
import os, ssl, urllib.error, urllib.request
folder = "/var/run/secrets/kubernetes.io/serviceaccount"
url = f"https://{os.environ['KUBERNETES_SERVICE_HOST']}:{os.environ['KUBERNETES_SERVICE_PORT']}/apis"
request = urllib.request.Request(url, headers={"Authorization": "Bearer " + open(folder + "/token").read()})
context = ssl.create_default_context(cafile=folder + "/ca.crt")
print(urllib.request.urlopen(request, context=context).status, open(folder + "/namespace").read())
"""
    ended = await run(cluster, pod("client", "", container={"command": [*PYTHON, code]}))
    assert log_of(cluster, ended) == "200 default\n"


async def test_automount_can_be_switched_off(cluster: Cluster) -> None:
    ended = await run(cluster, pod("blind", "ls /var/run/secrets 2>&1", automountServiceAccountToken=False))
    assert ended["status"]["phase"] == "Failed"


async def test_init_containers_run_first_one_after_the_other(cluster: Cluster) -> None:
    def init(name: str, script: str) -> Object:
        mounts = [{"name": "work", "mountPath": "/work"}]
        return {"name": name, "image": "none", "command": ["sh", "-c", script], "volumeMounts": mounts}

    body = pod(
        "staged",
        "cat /work/log",
        container={"volumeMounts": [{"name": "work", "mountPath": "/work"}]},
        initContainers=[init("one", "echo one >> /work/log"), init("two", "echo two >> /work/log")],
        volumes=[{"name": "work", "emptyDir": {}}],
    )
    ended = await run(cluster, body)
    assert log_of(cluster, ended) == "one\ntwo\n"
    assert [one["state"]["terminated"]["reason"] for one in ended["status"]["initContainerStatuses"]] == [
        "Completed"
    ] * 2


async def test_a_failed_init_container_fails_the_pod_before_its_containers_start(cluster: Cluster) -> None:
    init = {"name": "check", "image": "none", "command": ["sh", "-c", "exit 3"]}
    ended = await run(cluster, pod("unlucky", "echo ran", initContainers=[init]))
    assert ended["status"]["phase"] == "Failed"
    assert ended["status"]["initContainerStatuses"][0]["state"]["terminated"]["exitCode"] == 3
    assert waiting_reason(ended) == "PodInitializing"


async def test_a_sidecar_runs_beside_the_containers_and_ends_after_them(cluster: Cluster) -> None:
    mounts = [{"name": "work", "mountPath": "/work"}]
    sidecar = {
        "name": "helper",
        "image": "none",
        "command": [
            "sh",
            "-c",
            "trap 'touch /work/stopped; exit 0' TERM; touch /work/up; while :; do sleep 0.05; done",
        ],
        "restartPolicy": "Always",
        "volumeMounts": mounts,
    }
    script = "until test -e /work/up; do sleep 0.05; done; test ! -e /work/stopped && echo together"
    work = {"name": "work", "hostPath": {"path": str(cluster.folder)}}
    body = pod("pair", script, container={"volumeMounts": mounts}, initContainers=[sidecar], volumes=[work])
    ended = await run(cluster, body)
    assert log_of(cluster, ended) == "together\n"
    assert ended["status"]["phase"] == "Succeeded"
    assert (cluster.folder / "stopped").exists()


async def test_containers_share_what_is_kept_of_termination_messages(cluster: Cluster) -> None:
    body = pod("many", "head -c 5000 /dev/zero | tr '\\0' x > /dev/termination-log")
    beside = {**body["spec"]["containers"][0], "command": ["true"]}
    body["spec"]["containers"] += [{**beside, "name": f"beside-{n}"} for n in range(5)]
    ended = await run(cluster, body)
    kept = {one["name"]: one["state"]["terminated"].get("message", "") for one in ended["status"]["containerStatuses"]}
    assert sorted(len(message) for message in kept.values()) == [0, 0, 0, 0, 0, 2048]


async def test_exit_code_and_termination_message(cluster: Cluster) -> None:
    ended = await run(cluster, pod("code", "printf 'because' > /dev/termination-log; exit 75"))
    state = terminated(ended)
    assert state is not None
    assert (state["exitCode"], state["reason"], state["message"]) == (75, "Error", "because")
    assert ended["status"]["phase"] == "Failed"


async def test_the_message_falls_back_to_the_log_and_is_cut(cluster: Cluster) -> None:
    container = {"terminationMessagePolicy": "FallbackToLogsOnError"}
    ended = await run(cluster, pod("tail", "echo first; echo last; exit 1", container=container))
    assert (terminated(ended) or {})["message"] == "first\nlast\n"
    ended = await run(cluster, pod("long", "head -c 9000 /dev/zero | tr '\\0' x > /dev/termination-log"))
    assert len((terminated(ended) or {})["message"]) == 4096


async def test_on_failure_restarts_and_counts(cluster: Cluster) -> None:
    script = "test $(ls /work | wc -l) -ge 2 && exit 0; touch /work/$(ls /work | wc -l); exit 1"
    body = pod(
        "stubborn",
        script,
        container={"volumeMounts": [{"name": "work", "mountPath": "/work"}]},
        volumes=[{"name": "work", "emptyDir": {}}],
        restartPolicy="OnFailure",
    )
    ended = await run(cluster, body)
    status = ended["status"]["containerStatuses"][0]
    assert ended["status"]["phase"] == "Succeeded"
    assert status["restartCount"] == 2
    assert status["lastState"]["terminated"]["exitCode"] == 1


async def test_a_crash_loop_waits_and_says_so(cluster: Cluster) -> None:
    await cluster.api.create(PODS, pod("loop", "exit 1", restartPolicy="Always"), "default")
    looping = await wait_for(cluster, PODS, "loop", lambda item: waiting_reason(item) == "CrashLoopBackOff")
    assert looping["status"]["phase"] == "Running"
    await wait_for(cluster, PODS, "loop", lambda item: item["status"]["containerStatuses"][0]["restartCount"] >= 3)


async def test_conditions_of_a_running_pod(cluster: Cluster) -> None:
    await cluster.api.create(PODS, pod("up", "sleep 60"), "default")
    up = await wait_for(cluster, PODS, "up", has_condition("Ready"))
    assert {one["type"]: one["status"] for one in up["status"]["conditions"]} == {
        "PodReadyToStartContainers": "True",
        "Initialized": "True",
        "Ready": "True",
        "ContainersReady": "True",
        "PodScheduled": "True",
    }
    assert up["status"]["phase"] == "Running"


async def test_readiness_follows_its_probe_and_liveness_restarts(cluster: Cluster) -> None:
    exec_probe = {"exec": {"command": ["cat", "/work/ready"]}, "periodSeconds": 1, "failureThreshold": 1}
    alive = {"exec": {"command": ["test", "!", "-e", "/work/dead"]}, "periodSeconds": 1, "failureThreshold": 1}
    body = pod(
        "probed",
        "rm -f /work/dead; sleep 600",
        container={
            "volumeMounts": [{"name": "work", "mountPath": "/work"}],
            "readinessProbe": exec_probe,
            "livenessProbe": alive,
        },
        volumes=[{"name": "work", "emptyDir": {}}],
        restartPolicy="Always",
        terminationGracePeriodSeconds=1,
    )
    await cluster.api.create(PODS, body, "default")
    up = await wait_for(cluster, PODS, "probed", phase_is("Running"))
    assert has_condition("Ready", "False")(up)
    work = cluster.folder / "pods" / up["metadata"]["uid"] / "volumes" / "work"
    (work / "ready").touch()
    await wait_for(cluster, PODS, "probed", has_condition("Ready"))
    (work / "dead").touch()
    await wait_for(cluster, PODS, "probed", lambda item: item["status"]["containerStatuses"][0]["restartCount"] == 1)


async def test_a_startup_probe_holds_the_others_back(cluster: Cluster) -> None:
    server = (
        "import http.server; http.server.HTTPServer(('', 8080), http.server.SimpleHTTPRequestHandler).serve_forever()"
    )
    container = {
        "command": [sys.executable, "-c", server],
        "ports": [{"name": "web", "containerPort": 8080}],
        "startupProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1, "failureThreshold": 30},
        "livenessProbe": {"httpGet": {"path": "/", "port": "web"}, "periodSeconds": 1},
        "readinessProbe": {"httpGet": {"path": "/", "port": "web"}, "periodSeconds": 1},
    }
    await cluster.api.create(PODS, pod("slow", "", container=container), "default")
    up = await wait_for(cluster, PODS, "slow", has_condition("Ready"))
    status = up["status"]["containerStatuses"][0]
    assert (status["started"], status["restartCount"]) == (True, 0)


async def test_deletion_is_graceful(cluster: Cluster) -> None:
    script = "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.05; done"
    hook = {"preStop": {"exec": {"command": ["sh", "-c", "echo hook > /work/hook"]}}}
    body = pod(
        "polite",
        script,
        container={"volumeMounts": [{"name": "work", "mountPath": "/work"}], "lifecycle": hook},
        volumes=[{"name": "work", "hostPath": {"path": str(cluster.folder)}}],
    )
    await cluster.api.create(PODS, body, "default")
    up = await wait_for(cluster, PODS, "polite", has_condition("Ready"))
    await wait_log(cluster, up, "ready")
    seen: list[Object] = []
    cluster.control_plane.pods.add_handler(lambda old, new: seen.append(new) if new else None)
    await cluster.api.delete(PODS, "polite", "default")
    await wait_gone(cluster, PODS, "polite")
    assert (cluster.folder / "hook").read_text() == "hook\n"
    last = [one for one in seen if one["metadata"]["uid"] == up["metadata"]["uid"]][-1]
    assert last["status"]["phase"] == "Succeeded"
    assert (terminated(last) or {})["exitCode"] == 0


async def test_a_container_that_ignores_sigterm_is_killed_after_its_grace(cluster: Cluster) -> None:
    script = "trap '' TERM; echo deaf; while :; do sleep 0.1; done"
    await cluster.api.create(PODS, pod("deaf", script, terminationGracePeriodSeconds=1), "default")
    await wait_log(cluster, await wait_for(cluster, PODS, "deaf", has_condition("Ready")), "deaf")
    started = time.monotonic()
    await cluster.api.delete(PODS, "deaf", "default")
    await wait_gone(cluster, PODS, "deaf")
    assert time.monotonic() - started >= 0.9


async def test_deletion_by_force_leaves_no_process(cluster: Cluster) -> None:
    await cluster.api.create(PODS, pod("forced", "trap '' TERM; while :; do sleep 0.1; done"), "default")
    up = await wait_for(cluster, PODS, "forced", has_condition("Ready"))
    kubelet = cluster.control_plane.kubelet
    assert kubelet is not None
    worker = kubelet.workers[up["metadata"]["uid"]]
    await cluster.api.delete(PODS, "forced", "default", grace_period_seconds=0)
    await wait_gone(cluster, PODS, "forced")
    await worker.finished.wait()
    assert up["metadata"]["uid"] not in kubelet.workers


async def test_an_evicted_pod_is_failed_with_its_reason(cluster: Cluster) -> None:
    await cluster.api.create(PODS, pod("victim", "sleep 60"), "default")
    await wait_for(cluster, PODS, "victim", has_condition("Ready"))
    cluster.evict("default", "victim")
    evicted = await wait_for(cluster, PODS, "victim", phase_is("Failed"))
    assert evicted["status"]["reason"] == "Evicted"
    assert has_condition("DisruptionTarget")(evicted)


async def test_the_deadline_of_a_pod_ends_it(cluster: Cluster) -> None:
    ended = await run(cluster, pod("late", "sleep 60", activeDeadlineSeconds=1))
    assert ended["status"]["reason"] == "DeadlineExceeded"


async def test_a_pod_that_asks_for_too_much_is_unschedulable_until_there_is_room() -> None:
    nodes = [VirtualNode("a", {"cpu": "2", "memory": "4Gi", "nvidia.com/gpu": "1"})]
    async with Cluster(nodes=nodes) as cluster:
        gpu = {"resources": {"limits": {"nvidia.com/gpu": 1}}}
        await cluster.api.create(
            PODS, pod("first", "sleep 60", container=gpu, terminationGracePeriodSeconds=0), "default"
        )
        await wait_for(cluster, PODS, "first", has_condition("Ready"))
        await cluster.api.create(PODS, pod("second", "true", container=gpu), "default")
        held = await wait_for(cluster, PODS, "second", has_condition("PodScheduled", "False"))
        condition = next(one for one in held["status"]["conditions"] if one["type"] == "PodScheduled")
        assert condition["reason"] == "Unschedulable"
        assert condition["message"] == "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."
        await cluster.api.delete(PODS, "first", "default")
        await wait_for(cluster, PODS, "second", phase_is("Succeeded"))
        events = (await cluster.api.list(EVENTS, "default"))["items"]
        assert "FailedScheduling" in {one["reason"] for one in events if one["regarding"]["name"] == "second"}


async def test_a_cpu_limit_is_the_number_of_processors_that_the_container_sees(cluster: Cluster) -> None:
    container = {
        "command": [*PYTHON, "import os; print(len(os.sched_getaffinity(0)))"],
        "resources": {"requests": {"cpu": "100m"}, "limits": {"cpu": "500m"}},
    }
    ended = await run(cluster, pod("limited", "", container=container))
    assert log_of(cluster, ended).strip() == "1"
