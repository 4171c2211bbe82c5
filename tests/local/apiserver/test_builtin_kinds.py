"""Defaults and validation of the kinds that every cluster has."""

from typing import Any

import pytest

from finetune_local.apiserver.builtin.services import service_defaults
from finetune_local.apiserver.revision_store import RevisionStore
from local.apiserver.http_client import CONFIG_MAPS, DEPLOYMENTS, JOBS, PODS, Client
from local.apiserver.objects import config_map, container, deployment, job, pod

SERVICES = "/api/v1/namespaces/default/services"
SECRETS = "/api/v1/namespaces/default/secrets"
CLAIMS = "/api/v1/namespaces/default/persistentvolumeclaims"


def fields(body: dict[str, Any]) -> set[str]:
    return {cause["field"] for cause in body["details"]["causes"]}


async def test_pods_are_defaulted(client: Client) -> None:
    limited = container(resources={"limits": {"cpu": 1, "memory": "1Gi"}}, ports=[{"containerPort": 80}])
    status, body = await client.post(PODS, pod("p", containers=[limited]))
    spec = body["spec"]
    assert status == 201
    assert (spec["restartPolicy"], spec["terminationGracePeriodSeconds"]) == ("Always", 30)
    assert (spec["serviceAccountName"], spec["dnsPolicy"]) == ("default", "ClusterFirst")
    main = spec["containers"][0]
    assert (main["imagePullPolicy"], main["terminationMessagePath"]) == ("IfNotPresent", "/dev/termination-log")
    assert main["resources"]["requests"] == {"cpu": "1", "memory": "1Gi"}
    assert main["ports"] == [{"containerPort": 80, "protocol": "TCP"}]
    assert body["status"] == {"phase": "Pending", "qosClass": "Guaranteed"}


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"containers": []}, "spec.containers"),
        ({"containers": [{"name": "a", "command": ["x"]}]}, "spec.containers[0].image"),
        ({"containers": [container("a"), container("a")]}, "spec.containers[1].name"),
        ({"containers": [container("Bad_Name")]}, "spec.containers[0].name"),
        ({"restartPolicy": "Sometimes"}, "spec.restartPolicy"),
        (
            {"containers": [container(volumeMounts=[{"name": "none", "mountPath": "/x"}])]},
            "spec.containers[0].volumeMounts[0].name",
        ),
        ({"volumes": [{"name": "v"}, {"name": "v"}]}, "spec.volumes[1].name"),
        ({"volumes": [{"name": "v", "emptyDir": {}, "hostPath": {"path": "/"}}]}, "spec.volumes[0].hostPath"),
        (
            {"containers": [container(resources={"limits": {"cpu": "-1"}})]},
            "spec.containers[0].resources.limits[cpu]",
        ),
        (
            {"containers": [container(resources={"limits": {"cpu": "1"}, "requests": {"cpu": "1500m"}})]},
            "spec.containers[0].resources.requests",
        ),
        ({"containers": [container(ports=[{"containerPort": 70000}])]}, "spec.containers[0].ports[0].containerPort"),
    ],
)
async def test_bad_pods_are_refused(client: Client, spec: dict[str, Any], field: str) -> None:
    status, body = await client.post(PODS, pod("p", **spec))
    assert (status, body["reason"]) == (422, "Invalid")
    assert field in fields(body)


async def test_an_amount_that_is_no_quantity_is_a_bad_request(client: Client) -> None:
    asked = container(resources={"limits": {"cpu": "abc"}})
    status, body = await client.post(PODS, pod("p", containers=[asked]))
    assert (status, body["reason"]) == (400, "BadRequest")
    assert body["message"].startswith(
        'Pod in version "v1" cannot be handled as a Pod: quantities must match the regular expression'
    )


async def test_a_pods_spec_is_fixed(client: Client) -> None:
    await client.post(PODS, pod("p"))
    status, body = await client.patch(f"{PODS}/p", {"spec": {"hostname": "other"}})
    assert (status, fields(body)) == (422, {"spec"})
    assert "pod updates may not change fields other than" in body["message"]
    image = [{"op": "replace", "path": "/spec/containers/0/image", "value": "new:1"}]
    assert (await client.patch(f"{PODS}/p", image, "application/json-patch+json"))[0] == 200


async def test_wrong_json_types_are_bad_requests(client: Client) -> None:
    status, body = await client.post(JOBS, job("j", parallelism="two"))
    assert (status, body["reason"]) == (400, "BadRequest")
    assert "json: cannot unmarshal string into Go struct field Job.spec.parallelism of type int32" in body["message"]


async def test_unknown_fields_of_built_in_kinds(client: Client) -> None:
    body = deployment("web", replicaz=2)
    status, refused = await client.post(DEPLOYMENTS, body, fieldValidation="Strict")
    assert (status, refused["message"]) == (400, 'strict decoding error: unknown field "spec.replicaz"')
    status, created = await client.post(DEPLOYMENTS, body)
    assert status == 201
    assert "replicaz" not in created["spec"]


async def test_jobs_are_defaulted_and_select_their_own_pods(client: Client) -> None:
    _, body = await client.post(JOBS, job("j"))
    spec, uid = body["spec"], body["metadata"]["uid"]
    assert (spec["parallelism"], spec["completions"], spec["backoffLimit"]) == (1, 1, 6)
    assert (spec["completionMode"], spec["suspend"]) == ("NonIndexed", False)
    assert spec["selector"] == {"matchLabels": {"batch.kubernetes.io/controller-uid": uid}}
    assert spec["template"]["metadata"]["labels"] == {
        "batch.kubernetes.io/controller-uid": uid,
        "batch.kubernetes.io/job-name": "j",
        "controller-uid": uid,
        "job-name": "j",
    }


async def test_an_empty_job_is_told_everything_that_it_lacks(client: Client) -> None:
    empty = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j"}, "spec": {}}
    status, body = await client.post(JOBS, empty)
    assert status == 422
    assert fields(body) >= {"spec.template.spec.containers", "spec.template.spec.restartPolicy"}


async def test_a_jobs_template_is_immutable(client: Client) -> None:
    await client.post(JOBS, job("j", completions=2, completionMode="Indexed"))
    status, body = await client.patch(f"{JOBS}/j", {"spec": {"template": {"metadata": {"labels": {"a": "b"}}}}})
    assert (status, fields(body)) == (422, {"spec.template"})
    assert (await client.patch(f"{JOBS}/j", {"spec": {"completions": 3}}))[0] == 422
    assert (await client.patch(f"{JOBS}/j", {"spec": {"completions": 3, "parallelism": 3}}))[0] == 200  # elastic
    assert (await client.patch(f"{JOBS}/j", {"spec": {"suspend": True}}))[0] == 200


async def test_an_indexed_job_needs_completions_and_a_short_name(client: Client) -> None:
    status, body = await client.post(JOBS, job("j", completionMode="Indexed", parallelism=2))
    assert (status, fields(body)) == (422, {"spec.completions"})
    status, body = await client.post(JOBS, job("j" * 62, completionMode="Indexed", completions=12))
    assert (status, fields(body)) == (422, {"metadata.name"})


async def test_deleting_a_job_without_a_policy_keeps_its_pods_and_warns(client: Client) -> None:
    await client.post(JOBS, job("j"))
    _, body = await client.delete(f"{JOBS}/j")
    assert body["metadata"]["finalizers"] == ["orphan"]
    assert "child pods are preserved by default" in client.warnings[0]


async def test_deployments_are_defaulted_and_checked(client: Client) -> None:
    _, body = await client.post(DEPLOYMENTS, deployment("web"))
    spec = body["spec"]
    assert (spec["replicas"], spec["progressDeadlineSeconds"], spec["revisionHistoryLimit"]) == (1, 600, 10)
    assert spec["strategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"},
    }
    other = deployment("other", selector={"matchLabels": {"app": "different"}})
    status, refused = await client.post(DEPLOYMENTS, other)
    assert (status, fields(refused)) == (422, {"spec.template.metadata.labels"})
    status, refused = await client.patch(f"{DEPLOYMENTS}/web", {"spec": {"replicas": -1}})
    assert (status, fields(refused)) == (422, {"spec.replicas"})
    assert "spec.replicas: Invalid value: -1: must be greater than or equal to 0" in refused["message"]


async def test_services_get_an_address_and_keep_it(client: Client) -> None:
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "s"},
        "spec": {"selector": {"a": "b"}, "ports": [{"port": 80}]},
    }
    _, first = await client.post(SERVICES, service)
    _, second = await client.post(SERVICES, service | {"metadata": {"name": "t"}})
    address = first["spec"]["clusterIP"]
    assert address
    assert address != second["spec"]["clusterIP"]
    assert first["spec"]["ports"] == [{"port": 80, "protocol": "TCP", "targetPort": 80}]
    _, replaced = await client.put(f"{SERVICES}/s", service)
    assert replaced["spec"]["clusterIP"] == address
    status, body = await client.patch(f"{SERVICES}/s", {"spec": {"clusterIP": "127.96.9.9"}})
    assert (status, fields(body)) == (422, {"spec.clusterIP"})


def test_clusters_of_one_machine_give_different_addresses() -> None:
    given = set()
    for _ in range(20):
        service: dict[str, Any] = {"spec": {"ports": [{"port": 80}]}}
        service_defaults(RevisionStore())(service, None)
        given.add(service["spec"]["clusterIP"])
    assert len(given) > 15


async def test_headless_services_need_neither_address_nor_ports(client: Client) -> None:
    body = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {"clusterIP": "None"}}
    status, created = await client.post(SERVICES, body)
    assert (status, created["spec"]["clusterIP"]) == (201, "None")


async def test_secrets_take_text_and_keep_base64(client: Client) -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"k": "v"}}
    _, body = await client.post(SECRETS, secret)
    assert (body["data"], body["type"], "stringData" in body) == ({"k": "dg=="}, "Opaque", False)
    status, refused = await client.post(SECRETS, {"metadata": {"name": "t"}, "data": {"k": "not base64!"}})
    assert (status, fields(refused)) == (422, {"data[k]"})


async def test_immutable_config_maps_stay(client: Client) -> None:
    await client.post(CONFIG_MAPS, config_map("a", k="1") | {"immutable": True})
    status, body = await client.patch(f"{CONFIG_MAPS}/a", {"data": {"k": "2"}})
    assert (status, fields(body)) == (422, {"data"})


async def test_claims_need_a_size_and_an_access_mode(client: Client) -> None:
    claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "c"}, "spec": {}}
    status, body = await client.post(CLAIMS, claim)
    assert (status, fields(body)) == (422, {"spec.accessModes", "spec.resources[storage]"})


async def test_evictions_respect_disruption_budgets(client: Client) -> None:
    labelled = pod("p") | {"metadata": {"name": "p", "labels": {"app": "x"}}}
    await client.post(PODS, labelled)
    budget = {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "b"},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "x"}}},
    }
    budgets = "/apis/policy/v1/namespaces/default/poddisruptionbudgets"
    await client.post(budgets, budget)
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}}
    status, body = await client.post(f"{PODS}/p/eviction", eviction)
    assert (status, body["reason"]) == (429, "TooManyRequests")
    await client.patch(f"{budgets}/b/status", {"status": {"disruptionsAllowed": 1}})
    assert (await client.post(f"{PODS}/p/eviction", eviction))[0] == 201
    assert (await client.get(f"{PODS}/p"))[0] == 404
