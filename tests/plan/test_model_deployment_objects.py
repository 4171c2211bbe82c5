"""The Deployment and the Service that a ModelDeployment becomes."""

from typing import Any

from plan.serving_world import IMAGE, World, version


def deployment(*versions: dict[str, Any], **spec: Any) -> dict[str, Any]:
    world = World(list(versions) or [version("v1")], spec={"modelName": "tickets", **spec})
    world.step()
    assert world.deployment
    return world.deployment


def container(item: dict[str, Any]) -> dict[str, Any]:
    found = item["spec"]["template"]["spec"]["containers"]
    assert [one["name"] for one in found] == ["server"]
    return dict(found[0])


def test_never_below_the_ready_count() -> None:
    spec = deployment(progressDeadlineSeconds=77)["spec"]
    assert spec["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    assert spec["progressDeadlineSeconds"] == 77


def test_the_command_carries_the_digest() -> None:
    command = container(deployment())["command"]
    digest = f"sha256:{'a' * 64}"
    expected = ["finetune-serving", "--model", "pvc://models/v1", "--name", "tickets", "--version-name", "v1"]
    assert command == [*expected, "--digest", digest, "--port", "8080"]


def test_an_adapter_mounts_its_base_too() -> None:
    base = {"source": "pvc://bases/bert", "revision": "abc", "trustRemoteCode": True}
    item = deployment(version("v1", format="Adapter", baseModel=base))
    command = container(item)["command"]
    assert command[-5:] == ["--base-model", "pvc://bases/bert", "--base-revision", "abc", "--trust-remote-code"]
    mounts = {mount["mountPath"]: mount for mount in container(item)["volumeMounts"]}
    for claim in ("models", "bases"):
        assert mounts[f"/mnt/pvc/{claim}"]["readOnly"] is True
    volumes = {volume["name"]: volume for volume in item["spec"]["template"]["spec"]["volumes"]}
    assert volumes["pvc-bases"]["persistentVolumeClaim"] == {"claimName": "bases", "readOnly": True}


def test_a_base_that_is_a_version_is_resolved_with_its_digest() -> None:
    adapter = version("v2", minute=2, format="Adapter", baseModel={"source": "modelversion://base"})
    command = container(deployment(version("base", minute=1, model="base"), adapter))["command"]
    assert command[command.index("--base-model") + 1] == "pvc://models/base"
    assert command[command.index("--base-digest") + 1] == f"sha256:{'a' * 64}"


def test_a_full_model_needs_no_base() -> None:
    command = container(deployment(version("v1", baseModel={"source": "hf://org/bert"})))["command"]
    assert "--base-model" not in command


def test_pods_are_restricted() -> None:
    item = deployment()
    pod = item["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    context = container(item)["securityContext"]
    assert context["allowPrivilegeEscalation"] is False
    assert context["readOnlyRootFilesystem"] is True
    assert context["capabilities"] == {"drop": ["ALL"]}


def test_probes_and_grace_period() -> None:
    item = deployment()
    server = container(item)
    assert server["readinessProbe"]["httpGet"]["path"] == "/v2/health/ready"
    assert server["livenessProbe"]["httpGet"]["path"] == "/v2/health/live"
    assert server["startupProbe"]["httpGet"]["path"] == "/v2/health/live"
    from finetune_serving.settings import Shutdown

    shutdown = Shutdown()
    assert item["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] > (
        shutdown.drain_delay + shutdown.grace_period
    )


def test_credentials_of_the_version_and_of_the_deployment() -> None:
    item = deployment(version("v1", credentials={"secretName": "s3"}), credentials={"secretName": "mirror"})
    assert [source["secretRef"]["name"] for source in container(item)["envFrom"]] == ["s3", "mirror"]


def test_image_and_resources() -> None:
    assert container(deployment())["image"] == IMAGE
    item = deployment(image="mine:1", resources={"limits": {"cpu": "2500m", "memory": "1Gi"}})
    assert container(item)["image"] == "mine:1"
    assert container(item)["resources"]["limits"]["memory"] == "1Gi"
    environment = {one["name"]: one["value"] for one in container(item)["env"]}
    assert environment["OMP_NUM_THREADS"] == "2"


def test_the_pod_template_is_merged_but_identity_stays() -> None:
    template = {
        "metadata": {"labels": {"team": "support", "finetune-operator.io/deployment": "else"}},
        "spec": {
            "nodeSelector": {"gpu": "true"},
            "containers": [{"name": "server", "env": [{"name": "HF_HOME", "value": "/cache"}]}],
        },
    }
    item = deployment(podTemplate=template)["spec"]["template"]
    assert item["metadata"]["labels"]["team"] == "support"
    assert item["metadata"]["labels"]["finetune-operator.io/deployment"] == "tickets"
    assert item["spec"]["nodeSelector"] == {"gpu": "true"}
    environment = {one["name"]: one["value"] for one in item["spec"]["containers"][0]["env"]}
    assert environment["HF_HOME"] == "/cache"
    assert "HOME" in environment


def test_the_service_selects_the_pods_of_every_version() -> None:
    world = World([version("v1")])
    world.step()
    assert world.service
    assert world.deployment
    labels = world.deployment["spec"]["template"]["metadata"]["labels"]
    selector = world.service["spec"]["selector"]
    assert selector.items() <= labels.items()
    assert "finetune-operator.io/model-version" not in selector
    assert world.service["spec"]["ports"][0]["port"] == 80
    text = ",".join(f"{key}={value}" for key, value in sorted(selector.items()))
    assert world.status["selector"] == text


def test_owned_by_the_model_deployment() -> None:
    world = World([version("v1")])
    for item in world.step().objects:
        (owner,) = item["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["uid"], owner["controller"]) == ("ModelDeployment", "uid-1", True)


def test_long_names_still_make_labels() -> None:
    name = "x" * 200
    item = deployment(version(name))
    labels = item["spec"]["template"]["metadata"]["labels"]
    assert all(len(value) <= 63 for value in labels.values())
    assert item["spec"]["template"]["metadata"]["annotations"]["finetune-operator.io/model-version"] == name
