"""Requests: typed refusals, bounded waits, pauses that the server asks for, tokens that change."""

import asyncio
import time

import pytest
from aiohttp import web

from finetune_operator.kube.client import ApiError, HttpKubeApi, KubeConfigError, label_selector
from finetune_operator.kube.credentials import load_credentials
from finetune_operator.kube.metrics import REGISTRY
from finetune_operator.kube.resources import CONFIG_MAPS, JOBS, NAMESPACES, Kind
from kube.conftest import write_kubeconfig
from kube.fault_server import FaultServer, answering, status
from kube.watcher import THINGS


def thing(name: str, **fields):
    return {"apiVersion": "v1", "kind": "Thing", "metadata": {"name": name, "namespace": "d"}, **fields}


def test_paths_of_core_and_grouped_kinds() -> None:
    assert CONFIG_MAPS.path("ns", "a") == "/api/v1/namespaces/ns/configmaps/a"
    assert JOBS.path() == "/apis/batch/v1/jobs"
    assert JOBS.path("ns", "a", "status") == "/apis/batch/v1/namespaces/ns/jobs/a/status"
    assert NAMESPACES.path(None, "a") == "/api/v1/namespaces/a"
    assert (JOBS.group, JOBS.version, CONFIG_MAPS.group) == ("batch", "v1", "")


def test_name_without_namespace_is_refused_before_it_becomes_a_wrong_url() -> None:
    with pytest.raises(ValueError, match="namespaced"):
        JOBS.path(None, "a")


async def test_create_get_replace_patch_delete(api: HttpKubeApi) -> None:
    created = await api.create(THINGS, thing("a", spec={"x": 1}))
    assert await api.get(THINGS, "a", "d") == created
    replaced = await api.replace(THINGS, {**created, "spec": {"x": 2}})
    assert replaced["spec"] == {"x": 2}
    patched = await api.patch(THINGS, "a", {"spec": {"x": 3}}, "d")
    assert patched["spec"] == {"x": 3}
    assert await api.delete(THINGS, "a", "d") is not None
    assert await api.delete(THINGS, "a", "d") is None


async def test_refusals_are_typed(api: HttpKubeApi) -> None:
    created = await api.create(THINGS, thing("a"))
    with pytest.raises(ApiError) as exists:
        await api.create(THINGS, thing("a"))
    assert exists.value.already_exists
    assert not exists.value.conflict
    await api.replace(THINGS, created)
    with pytest.raises(ApiError) as stale:
        await api.replace(THINGS, created)
    assert stale.value.conflict
    assert (stale.value.status, stale.value.reason) == (409, "Conflict")
    with pytest.raises(ApiError) as missing:
        await api.get(THINGS, "b", "d")
    assert missing.value.not_found


async def test_apply_is_a_forced_patch_under_its_field_manager(api: HttpKubeApi, server: FaultServer) -> None:
    kept: list[web.Request] = []

    async def answer(request):
        kept.append(request)
        return web.json_response({})

    server.script("PATCH", answer, answer)
    await api.apply(THINGS, thing("a"), field_manager="us", subresource="status")
    assert kept[0].headers["Content-Type"] == "application/apply-patch+yaml"
    assert dict(kept[0].query) == {"fieldManager": "us", "force": "true"}
    assert kept[0].path == "/api/v1/namespaces/d/things/a/status"
    await api.apply(THINGS, thing("a"), field_manager="us", force=False)
    assert kept[1].query["force"] == "false"


async def test_delete_names_the_object_it_means(api: HttpKubeApi, server: FaultServer) -> None:
    await api.create(THINGS, thing("a"))
    await api.delete(THINGS, "a", "d", uid="u1", propagation="Foreground", grace_period_seconds=0)
    options = server.seen[-1].body
    assert options["preconditions"] == {"uid": "u1"}
    assert (options["propagationPolicy"], options["gracePeriodSeconds"]) == ("Foreground", 0)


async def test_selectors_are_escaped(api: HttpKubeApi, server: FaultServer) -> None:
    selector = label_selector({"a/b": "c", "d": "é&x"})
    await api.list(THINGS, label_selector=selector)
    assert server.seen[-1].query["labelSelector"] == "a/b=c,d=é&x"


@pytest.mark.parametrize(("code", "reason"), [(429, "TooManyRequests"), (503, "ServiceUnavailable")])
async def test_pause_that_the_server_asks_for_is_made(
    api: HttpKubeApi, server: FaultServer, code: int, reason: str
) -> None:
    server.script("POST", answering(lambda: status(code, reason, **{"Retry-After": "1"})))
    started = time.monotonic()
    await api.create(THINGS, thing("a"))
    assert time.monotonic() - started >= 1.0
    assert server.count("POST") == 2


async def test_retries_are_bounded(connect, server: FaultServer) -> None:
    api = await connect()
    server.script("POST", *[answering(lambda: status(429, "TooManyRequests", **{"Retry-After": "0"}))] * 50)
    with pytest.raises(ApiError) as refused:
        await api.create(THINGS, thing("a"))
    assert refused.value.too_many_requests
    assert server.count("POST") == 4


async def test_pause_too_long_for_a_worker_is_left_to_the_queue(api: HttpKubeApi, server: FaultServer) -> None:
    server.script("POST", answering(lambda: status(429, "TooManyRequests", **{"Retry-After": "60"})))
    with pytest.raises(ApiError) as refused:
        await api.create(THINGS, thing("a"))
    assert refused.value.retry_after == 60
    assert server.count("POST") == 1


@pytest.mark.parametrize("code", [429, 500, 503])
async def test_failures_without_retry_after_are_not_repeated(api: HttpKubeApi, server: FaultServer, code: int) -> None:
    server.script("POST", answering(lambda: status(code, "Whatever")))
    with pytest.raises(ApiError) as refused:
        await api.create(THINGS, thing("a"))
    assert refused.value.status == code
    assert server.count("POST") == 1


async def test_proxy_page_instead_of_a_status_object(api: HttpKubeApi, server: FaultServer) -> None:
    server.script("GET", answering(lambda: web.Response(status=502, text="<html>bad gateway</html>")))
    with pytest.raises(ApiError) as refused:
        await api.get(THINGS, "a", "d")
    assert (refused.value.status, refused.value.reason) == (502, "Http502")
    assert "bad gateway" in refused.value.message


async def test_answer_that_is_not_json(api: HttpKubeApi, server: FaultServer) -> None:
    server.script("GET", answering(lambda: web.Response(text="<html>login</html>")))
    with pytest.raises(ApiError, match="not JSON"):
        await api.get(THINGS, "a", "d")


async def test_frozen_server_costs_one_timeout(connect, server: FaultServer) -> None:
    api = await connect(timeout=0.3)
    server.freeze()
    async with asyncio.timeout(10):
        with pytest.raises(ApiError) as silent:
            await api.get(THINGS, "a", "d")
    assert silent.value.unreachable
    assert silent.value.status == 0


async def test_refused_connection_is_an_api_error_too(api: HttpKubeApi, server: FaultServer) -> None:
    await server.stop()
    with pytest.raises(ApiError) as refused:
        await api.create(THINGS, thing("a"))
    assert refused.value.unreachable


async def test_watches_never_starve_the_writes(connect, server: FaultServer) -> None:
    api = await connect(workers=1, watches=3)

    async def drain():
        async for _ in api.watch(THINGS, resource_version="100", timeout_seconds=60):
            pass

    tasks = [asyncio.create_task(drain()) for _ in range(3)]
    await server.until_seen("watch", 3)
    async with asyncio.timeout(10):
        await asyncio.gather(*(api.create(THINGS, thing(f"t{number}")) for number in range(10)))
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_requests_are_counted_by_code_and_method(api: HttpKubeApi, server: FaultServer) -> None:
    labels = {"code": "404", "method": "GET", "host": f"127.0.0.1:{server.port}"}
    with pytest.raises(ApiError):
        await api.get(THINGS, "a", "d")
    assert REGISTRY.get_sample_value("rest_client_requests_total", labels) == 1
    await server.stop()
    with pytest.raises(ApiError):
        await api.get(THINGS, "a", "d")
    assert REGISTRY.get_sample_value("rest_client_requests_total", labels | {"code": "<error>"}) == 1


async def test_rotated_token_file_is_read_again(connect, server: FaultServer, tmp_path) -> None:
    token = tmp_path / "token"
    token.write_text("first\n")
    api = await connect({"tokenFile": str(token)}, refresh_seconds=0.0)
    await api.list(THINGS)
    token.write_text("second\n")
    await api.list(THINGS)
    assert [seen.authorization for seen in server.seen] == ["Bearer first", "Bearer second"]


async def test_refused_token_is_read_again_at_once(connect, server: FaultServer, tmp_path) -> None:
    token = tmp_path / "token"
    token.write_text("first")
    api = await connect({"tokenFile": str(token)}, refresh_seconds=3600)
    server.accepted_tokens = {"Bearer first"}
    await api.list(THINGS)
    token.write_text("second")
    server.accepted_tokens = {"Bearer second"}
    await asyncio.gather(*(api.list(THINGS) for _ in range(5)))
    assert server.seen[-1].authorization == "Bearer second"


async def test_token_that_stays_refused_is_an_error_and_no_loop(connect, server: FaultServer) -> None:
    api = await connect()
    server.accepted_tokens = set()
    with pytest.raises(ApiError) as refused:
        await api.list(THINGS)
    assert refused.value.unauthorized
    assert len(server.seen) == 1


async def test_exec_plugin_runs_again_after_a_401(connect, server: FaultServer, tmp_path) -> None:
    plugin = tmp_path / "plugin"
    plugin.write_text(
        "#!/bin/sh\n"
        f"echo x >> {tmp_path}/runs\n"
        f"n=$(wc -l < {tmp_path}/runs)\n"
        'echo \'{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", '
        '"status": {"token": "t\'$n\'"}}\'\n'
    )
    plugin.chmod(0o755)
    spec = {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": str(plugin), "args": []}}
    api = await connect(spec)
    server.accepted_tokens = {"Bearer t1"}
    await api.list(THINGS)
    await api.list(THINGS)
    server.accepted_tokens = {"Bearer t2"}
    await api.list(THINGS)
    assert [seen.authorization for seen in server.seen][-2:] == ["Bearer t1", "Bearer t2"]


async def test_exec_plugin_that_fails_is_an_early_error(tmp_path) -> None:
    spec = {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "/bin/false", "args": []}}
    path = write_kubeconfig(tmp_path / "kubeconfig", "http://127.0.0.1:1", spec)
    with pytest.raises(KubeConfigError, match="/bin/false"):
        await load_credentials(str(path))


async def test_missing_kubeconfig_says_what_to_do(tmp_path) -> None:
    with pytest.raises(KubeConfigError, match="--kubeconfig"):
        await load_credentials(str(tmp_path / "absent"))


async def test_unknown_context_is_named(tmp_path) -> None:
    path = write_kubeconfig(tmp_path / "kubeconfig", "http://127.0.0.1:1")
    with pytest.raises(KubeConfigError, match="other"):
        await load_credentials(str(path), "other")


@pytest.mark.parametrize("text", ["", "[]", "a: [", "apiVersion: v1\nkind: Config\n"])
async def test_broken_kubeconfig_is_named(tmp_path, text: str) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(text)
    with pytest.raises(KubeConfigError, match="kubeconfig"):
        await load_credentials(str(path))


async def test_kubeconfig_is_never_written(connect, api: HttpKubeApi, server: FaultServer, tmp_path) -> None:
    path = write_kubeconfig(tmp_path / "kubeconfig", server.url)
    before = path.stat().st_mtime_ns
    await load_credentials(str(path))
    assert path.stat().st_mtime_ns == before


async def test_cluster_scoped_kind_ignores_the_namespace() -> None:
    kind = Kind("v1", "Node", "nodes", namespaced=False)
    assert kind.path("ns", "a") == "/api/v1/nodes/a"
