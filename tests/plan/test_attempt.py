import json
from typing import Any

import pytest

from finetune_api.names import progress_audience
from finetune_api.trainer_config import TrainerConfig
from finetune_operator.plan.attempt import SNAPSHOT_KEY, attempt_objects
from finetune_operator.plan.basis import basis
from finetune_operator.plan.names import ANNOTATION_SNAPSHOT
from finetune_operator.plan.settings import Settings
from finetune_operator.plan.tolerations import with_node_tolerations
from plan.builders import SETTINGS, UID, job, world

TROUBLES = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")


def objects(settings: Settings = SETTINGS, number: int = 1, runtime: Any = None, **changes: Any) -> list[dict]:
    around = world(job(**changes), runtime=runtime)
    base = basis(around)
    return attempt_objects(base.job, base.snapshot, number, settings)


def trainer(*args: Any, **changes: Any) -> dict:
    template = objects(*args, **changes)[-1]["spec"]["template"]
    return next(c for c in template["spec"]["containers"] if c["name"] == "trainer")


def environment(container: dict) -> dict[str, Any]:
    return {one["name"]: one.get("value", one.get("valueFrom")) for one in container["env"]}


def test_an_attempt_is_a_config_map_a_headless_service_and_an_indexed_job() -> None:
    config_map, service, batch_job = objects()
    assert [o["kind"] for o in (config_map, service, batch_job)] == ["ConfigMap", "Service", "Job"]
    assert {o["metadata"]["name"] for o in (config_map, service, batch_job)} == {"tickets-1"}
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["publishNotReadyAddresses"] is True
    assert batch_job["spec"]["completions"] == batch_job["spec"]["parallelism"] == 2
    assert batch_job["spec"]["completionMode"] == "Indexed"
    assert batch_job["spec"]["backoffLimit"] == 0


def test_the_job_bears_what_it_started_with_unless_that_is_large() -> None:
    *others, batch_job = objects()
    assert batch_job["metadata"]["annotations"][ANNOTATION_SNAPSHOT] == others[0]["data"][SNAPSHOT_KEY]
    large = {"metadata": {"annotations": {"note": "x" * 70_000}}}
    assert ANNOTATION_SNAPSHOT not in objects(podTemplate=large)[-1]["metadata"]["annotations"]


def test_a_single_pod_needs_no_service() -> None:
    config_map, batch_job = objects(distributed={"nodes": 1, "processesPerNode": 2})
    assert [o["kind"] for o in (config_map, batch_job)] == ["ConfigMap", "Job"]
    assert "subdomain" not in batch_job["spec"]["template"]["spec"]


def test_everything_is_owned_by_the_job() -> None:
    for item in objects():
        (owner,) = item["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["uid"], owner["controller"]) == ("FineTuneJob", UID, True)
        assert owner["blockOwnerDeletion"], "whoever deletes it with --cascade=foreground waits for the pods"


def test_the_service_selects_the_pods_of_its_attempt_only() -> None:
    _, service, batch_job = objects(number=3)
    labels = batch_job["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()
    _, other, _ = objects(number=4)
    assert not other["spec"]["selector"].items() <= labels.items()


def test_the_configuration_is_what_the_trainer_reads_and_nobody_changes_it() -> None:
    config_map = objects(number=2)[0]
    assert config_map["immutable"]
    config = TrainerConfig.model_validate_json(config_map["data"]["job.json"])
    assert config.job.attempt == 2
    assert config.checkpoint.storage == "pvc://work/checkpoints/tickets-5f0c2a1e"
    assert config.output == "s3://models/tickets-5f0c2a1e"


def test_torchrun_is_wired_by_its_own_variables() -> None:
    env = environment(trainer())
    assert env["PET_NNODES"] == "2"
    assert env["PET_NPROC_PER_NODE"] == "1"
    assert env["PET_MASTER_ADDR"] == "tickets-1-0.tickets-1.ml.svc"
    assert env["PET_NODE_RANK"]["fieldRef"]["fieldPath"].endswith("['batch.kubernetes.io/job-completion-index']")


def test_two_attempts_never_share_a_rendezvous_port() -> None:
    assert environment(trainer(number=1))["PET_MASTER_PORT"] != environment(trainer(number=2))["PET_MASTER_PORT"]


def test_pods_meet_the_restricted_standard_with_a_read_only_root() -> None:
    template = objects()[-1]["spec"]["template"]["spec"]
    assert template["automountServiceAccountToken"] is False
    assert template["securityContext"]["runAsNonRoot"] is True
    assert template["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    (container,) = template["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_everything_writable_is_a_volume() -> None:
    container = trainer()
    writable = {m["mountPath"] for m in container["volumeMounts"] if not m.get("readOnly")}
    env = environment(container)
    for name in ("HOME", "TMPDIR", "HF_HOME", "XDG_CACHE_HOME", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"):
        assert any(env[name] == path or env[name].startswith(path + "/") for path in writable), name


def test_claims_are_mounted_once_and_read_only_unless_written() -> None:
    container = trainer(model={"source": "pvc://models/minilm"}, output={"storage": "pvc://work/out"})
    claims = {m["mountPath"]: m.get("readOnly", False) for m in container["volumeMounts"] if "/mnt/" in m["mountPath"]}
    assert claims == {"/mnt/pvc/models": True, "/mnt/pvc/data": True, "/mnt/pvc/work": False}


def test_a_claim_that_is_read_and_written_is_writable() -> None:
    container = trainer(model={"source": "pvc://work/model"})
    (mount,) = [m for m in container["volumeMounts"] if m["mountPath"] == "/mnt/pvc/work"]
    assert not mount.get("readOnly")


def test_the_progress_token_is_for_this_job_alone() -> None:
    template = objects()[-1]["spec"]["template"]["spec"]
    (volume,) = [v for v in template["volumes"] if v["name"] == "progress-token"]
    token = volume["projected"]["sources"][0]["serviceAccountToken"]
    assert token["audience"] == progress_audience("ml", "tickets", UID)
    assert environment(template["containers"][0])["FINETUNE_PROGRESS_URL"] == (
        "https://receiver:8443/v1/jobs/ml/tickets/progress"
    )


def test_without_a_receiver_pods_get_no_token() -> None:
    template = objects(Settings("trainer:test"))[-1]["spec"]["template"]["spec"]
    assert "progress-token" not in {v["name"] for v in template["volumes"]}
    assert "FINETUNE_PROGRESS_URL" not in environment(template["containers"][0])


def config_sources(pod: dict[str, Any]) -> list[dict[str, Any]]:
    """Of the volume with the pod's configuration."""
    (volume,) = [v["projected"] for v in pod["volumes"] if v["name"] == "config"]
    return [source["configMap"] for source in volume["sources"]]


def shown(source: dict[str, Any]) -> list[str]:
    return [item["key"] for item in source["items"]]


def test_the_receivers_authority_travels_with_the_configuration() -> None:
    config_map, _, batch_job = objects(Settings("trainer:test", "https://r", "PEM"))
    template = batch_job["spec"]["template"]["spec"]
    config, authority = config_sources(template)
    assert config_map["data"]["ca.crt"] == "PEM"
    assert (shown(config), shown(authority)) == (["job.json"], ["ca.crt"])
    assert authority["optional"] is True  # an operator without one may have made the ConfigMap: no pod waits for it
    assert environment(template["containers"][0])["FINETUNE_PROGRESS_CA_FILE"] == "/etc/finetune/ca.crt"


def test_the_trainer_is_told_what_comes_from_secrets() -> None:
    container = {
        "name": "trainer",
        "env": [
            {"name": "CHANNEL", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
            {"name": "PLAIN", "value": "x"},
        ],
        "volumeMounts": [
            {"name": "a", "mountPath": "/a"},
            {"name": "b", "mountPath": "/b/file", "subPath": "file"},
            {"name": "c", "mountPath": "/c"},
            {"name": "d", "mountPath": "/d"},
        ],
    }
    volumes = [
        {"name": "c", "csi": {"driver": "secrets-store.csi.k8s.io", "readOnly": True}},
        {"name": "d", "csi": {"driver": "ebs.csi.aws.com"}},
        {"name": "a", "secret": {"secretName": "s"}},
        {"name": "b", "projected": {"sources": [{"secret": {"name": "s"}}]}},
    ]
    found = environment(trainer(podTemplate={"spec": {"containers": [container], "volumes": volumes}}))
    assert found["FINETUNE_SECRET_VARIABLES"] == "CHANNEL"
    assert sorted(found["FINETUNE_SECRET_PATHS"].split(":")) == ["/a", "/b/file", "/c"]
    assert "FINETUNE_SECRET_VARIABLES" not in environment(trainer())


def test_the_snapshot_is_kept_but_not_shown_to_the_pods() -> None:
    config_map, _, batch_job = objects()
    assert json.loads(config_map["data"]["snapshot.json"])["spec"] == job()["spec"]
    (config,) = config_sources(batch_job["spec"]["template"]["spec"])
    assert shown(config) == ["job.json"]


def test_credentials_become_environment() -> None:
    assert trainer(credentials={"secretName": "s3"})["envFrom"] == [{"secretRef": {"name": "s3"}}]


RUNTIME = {
    "spec": {
        "trainerImage": "runtime:1",
        "resources": {"limits": {"cpu": "4"}},
        "podTemplate": {
            "metadata": {"labels": {"team": "platform"}},
            "spec": {
                "nodeSelector": {"pool": "gpu"},
                "containers": [{"name": "trainer", "env": [{"name": "A", "value": "runtime"}]}],
            },
        },
    }
}


def test_the_jobs_template_is_merged_over_the_runtimes() -> None:
    own = {"spec": {"containers": [{"name": "trainer", "env": [{"name": "A", "value": "job"}]}]}}
    template = objects(runtime=RUNTIME, runtimeRef={"name": "gpu"}, podTemplate=own)[-1]["spec"]["template"]
    assert template["spec"]["nodeSelector"] == {"pool": "gpu"}
    assert template["metadata"]["labels"]["team"] == "platform"
    (container,) = template["spec"]["containers"]
    assert environment(container)["A"] == "job"
    assert container["image"] == "runtime:1"
    assert container["resources"] == {"limits": {"cpu": "4"}}


def test_the_jobs_priority_goes_over_the_runtimes_template() -> None:
    runtime = {"spec": {"podTemplate": {"spec": {"priorityClassName": "batch"}}}}
    for own, expected in (({}, "batch"), ({"priorityClassName": "urgent"}, "urgent")):
        template = objects(runtime=runtime, runtimeRef={"name": "gpu"}, **own)[-1]["spec"]["template"]
        assert template["spec"]["priorityClassName"] == expected


@pytest.mark.parametrize(
    ("own", "expected"), [({"trainerImage": "job:1"}, "job:1"), ({}, "runtime:1")], ids=["job", "runtime"]
)
def test_the_jobs_own_value_wins(own: dict, expected: str) -> None:
    assert trainer(runtime=RUNTIME, runtimeRef={"name": "gpu"}, **own)["image"] == expected


@pytest.mark.parametrize(("grace", "expected"), [(None, "110"), (600, "590"), (30, "20"), (8, "4")])
def test_the_workers_grace_follows_the_pods(grace: int | None, expected: str) -> None:
    own = {"podTemplate": {"spec": {"terminationGracePeriodSeconds": grace}}} if grace else {}
    assert environment(trainer(**own))["FINETUNE_STOP_GRACE_SECONDS"] == expected


def test_a_template_may_set_the_workers_grace() -> None:
    container = {"name": "trainer", "env": [{"name": "FINETUNE_STOP_GRACE_SECONDS", "value": "7"}]}
    own = {"spec": {"terminationGracePeriodSeconds": 600, "containers": [container]}}
    assert environment(trainer(podTemplate=own))["FINETUNE_STOP_GRACE_SECONDS"] == "7"


@pytest.mark.parametrize(("sidecars", "expected"), [(0, None), (1, 3072), (3, 2048)])
def test_last_words_share_what_the_kubelet_keeps_of_a_pod(sidecars: int, expected: int | None) -> None:
    """12 KiB for all containers, of which a mesh may add two."""
    own = {"spec": {"containers": [{"name": f"sidecar-{n}", "image": "log:1"} for n in range(sidecars)]}}
    told = environment(trainer(podTemplate=own)).get("FINETUNE_TERMINATION_BYTES")
    assert told == (None if expected is None else str(expected))


def test_identity_cannot_be_overridden() -> None:
    template = {
        "metadata": {"labels": {"finetune-operator.io/job": "other"}},
        "spec": {"restartPolicy": "Always", "subdomain": "elsewhere"},
    }
    made = objects(podTemplate=template)[-1]["spec"]["template"]
    assert made["metadata"]["labels"]["finetune-operator.io/job"] == "tickets"
    assert (made["spec"]["restartPolicy"], made["spec"]["subdomain"]) == ("Never", "tickets-1")


def test_one_lost_pod_fails_the_job_at_once() -> None:
    rules = objects()[-1]["spec"]["podFailurePolicy"]["rules"]
    assert [rule["action"] for rule in rules] == ["FailJob", "FailJob"]
    assert rules[1]["onExitCodes"] == {"containerName": "trainer", "operator": "NotIn", "values": [0]}


def test_the_same_job_gives_the_same_objects() -> None:
    assert objects() == objects()


def test_pods_do_not_wait_five_minutes_for_a_node_that_is_gone() -> None:
    tolerations = with_node_tolerations([{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}])
    assert tolerations[0]["key"] == "nvidia.com/gpu"
    assert {one["key"]: one["tolerationSeconds"] for one in tolerations[1:]} == dict.fromkeys(TROUBLES, 30)
    assert all((one["effect"], one["operator"]) == ("NoExecute", "Exists") for one in tolerations[1:])
    assert len(objects()[-1]["spec"]["template"]["spec"]["tolerations"]) == len(TROUBLES)


@pytest.mark.parametrize("key", [*TROUBLES, None])
def test_tolerations_of_a_template_for_the_same_troubles_win(key: str | None) -> None:
    own = {"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 600} | ({"key": key} if key else {})
    added = with_node_tolerations([own])[1:]
    assert {one["key"] for one in added} == set(TROUBLES) - ({key} if key else set(TROUBLES))
