"""Training pods: an account without rights, the restricted Pod Security Standard, and a NetworkPolicy."""

from typing import Any

import pytest

from finetune_api.names import TRAINER_SERVICE_ACCOUNT
from finetune_api.network import NetworkAccess
from finetune_operator.plan.attempt import attempt_objects
from finetune_operator.plan.basis import basis
from finetune_operator.plan.isolation import isolation_writes, network_policy
from finetune_operator.plan.settings import Settings
from plan.builders import SETTINGS, UID, job, world

Resource = dict[str, Any]
ON_VOLUMES = {"model": {"source": "pvc://models/m"}, "output": {"storage": "pvc://work/out"}}
IN_CLUSTER = Settings("t", "https://receiver.finetune-system.svc:443", progress_port=8443)


def policy(settings: Settings = SETTINGS, runtime: Resource | None = None, **changes: Any) -> Resource | None:
    named = {"runtimeRef": {"name": "r"}} if runtime is not None else {}
    around = world(job(**(changes | named)), runtime={"spec": runtime} if runtime is not None else None)
    return network_policy(basis(around).job, settings)


def egress(found: Resource | None, port: int) -> list[Any]:
    """Whom a port may be opened to; None stands for everybody."""
    assert found is not None
    rules = found["spec"]["egress"]
    return [rule.get("to") for rule in rules if any(one["port"] == port for one in rule.get("ports", ()))]


def test_the_policy_holds_for_every_attempt_and_goes_with_the_job() -> None:
    found = policy()
    assert found is not None
    assert found["metadata"]["ownerReferences"][0]["uid"] == UID
    labels = found["spec"]["podSelector"]["matchLabels"]
    for number in (1, 2):
        base = basis(world(job()))
        pods = attempt_objects(base.job, base.snapshot, number, SETTINGS)[-1]["spec"]["template"]["metadata"]["labels"]
        assert labels.items() <= pods.items()
    gang = [{"podSelector": {"matchLabels": labels}}]
    assert {"to": gang} in found["spec"]["egress"]
    assert {"from": gang} in found["spec"]["ingress"]
    assert found["spec"]["policyTypes"] == ["Ingress", "Egress"]


def test_names_are_resolved_whatever_is_closed() -> None:
    assert egress(policy(IN_CLUSTER, **ON_VOLUMES), 53) == [None]


def test_a_job_on_volumes_reaches_nobody_but_its_gang_and_the_receiver() -> None:
    found = policy(IN_CLUSTER, **ON_VOLUMES)
    assert egress(found, 443) == []
    (receiver,) = egress(found, 8443)
    assert receiver == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "finetune-system"}}}]


@pytest.mark.parametrize(
    "remote",
    [
        {"model": {"source": "hf://a/b"}},
        {"output": {"storage": "s3://models"}},
        {"dataset": {"train": {"source": "s3://data/t.jsonl"}, "split": {"test": 0.1}}},
        {"checkpoint": {"storage": "s3://c"}},
    ],
)
def test_storage_over_the_network_opens_https(remote: Resource) -> None:
    ((_, *_),) = egress(policy(IN_CLUSTER, **(ON_VOLUMES | remote)), 443)


def test_a_receiver_outside_of_the_cluster_is_reached_at_its_port() -> None:
    outside = Settings("t", "https://tuner.example.com:8443/x")
    (anywhere,) = egress(policy(outside, **ON_VOLUMES), 8443)
    assert {block["ipBlock"]["cidr"] for block in anywhere} == {"0.0.0.0/0", "::/0"}


def test_the_platform_team_may_open_more_or_everything() -> None:
    runtime = {"network": {"egress": [{"cidr": "10.1.0.0/16", "ports": [9000, 9001]}]}}
    assert egress(policy(runtime=runtime), 9001) == [[{"ipBlock": {"cidr": "10.1.0.0/16"}}]]
    assert policy(runtime={"network": {"isolation": "None"}}) is None


def test_an_address_block_is_checked() -> None:
    with pytest.raises(ValueError, match="write an address block such as"):
        NetworkAccess.model_validate({"egress": [{"cidr": "minio:9000", "ports": [9000]}]})


def test_the_account_is_made_once_and_grants_nothing() -> None:
    base = basis(world(job()))
    account, _ = (write.body for write in isolation_writes(base.job, SETTINGS, has_account=False))
    assert (account["kind"], account["metadata"]["name"]) == ("ServiceAccount", TRAINER_SERVICE_ACCOUNT)
    assert account["automountServiceAccountToken"] is False
    assert "ownerReferences" not in account["metadata"]
    (only_policy,) = isolation_writes(base.job, SETTINGS, has_account=True)
    assert only_policy.body["kind"] == "NetworkPolicy"


VOLUME_TYPES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}


def test_pods_meet_every_control_of_the_restricted_standard() -> None:
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted"""
    base = basis(world(job(credentials={"secretName": "s3"})))
    pod = attempt_objects(base.job, base.snapshot, 1, IN_CLUSTER)[-1]["spec"]["template"]["spec"]
    assert pod["serviceAccountName"] == TRAINER_SERVICE_ACCOUNT
    assert pod["automountServiceAccountToken"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
    for volume in pod["volumes"]:
        assert set(volume) - {"name"} <= VOLUME_TYPES
    tokens = [
        source["serviceAccountToken"]
        for volume in pod["volumes"]
        for source in volume.get("projected", {}).get("sources", ())
        if "serviceAccountToken" in source
    ]
    assert [token["audience"].rpartition("/")[2] for token in tokens] == [UID]  # for reporting, and nothing else
    for container in pod["containers"]:
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert "privileged" not in context
        assert not any("hostPort" in port for port in container["ports"])
