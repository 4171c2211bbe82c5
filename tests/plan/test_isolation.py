"""Training pods: an account without rights, the restricted Pod Security Standard, and a NetworkPolicy."""

import json
from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from pydantic import ValidationError

from finetune_api.names import LABEL_JOB, LABEL_NETWORK, TRAINER_SERVICE_ACCOUNT
from finetune_api.network import NetworkAccess
from finetune_operator.engines.gang import Gang
from finetune_operator.plan.attempt import attempt_objects
from finetune_operator.plan.basis import basis
from finetune_operator.plan.isolation import isolation_writes, network_policy
from finetune_operator.plan.pod_template import pod_template
from finetune_operator.plan.resolution import ResolvedJob
from finetune_operator.plan.settings import Settings
from finetune_operator.plan.training_network import training_network
from finetune_operator.plan.world import Apply, Create
from plan.builders import SETTINGS, UID, job, world

Resource = dict[str, Any]
ON_VOLUMES = {"model": {"source": "pvc://models/m"}, "output": {"storage": "pvc://work/out"}}
IN_CLUSTER = Settings("t", "https://receiver.finetune-system.svc:443", progress_port=8443)


ALONE = {"distributed": {"nodes": 1}}


def resolved(runtime: Resource | None = None, name: str = "tickets", **changes: Any) -> ResolvedJob:
    named = {"runtimeRef": {"name": "r"}} if runtime is not None else {}
    around = world(job(name, **(changes | named)), runtime={"spec": runtime} if runtime is not None else None)
    return basis(around).job


def policy(settings: Settings = SETTINGS, runtime: Resource | None = None, **changes: Any) -> Resource | None:
    return network_policy(resolved(runtime, **changes), settings)


def pod_labels(runtime: Resource | None = None, settings: Settings = SETTINGS, **changes: Any) -> dict[str, str]:
    made = resolved(runtime, **changes)
    gang = Gang("tickets-1", "ml", made.spec.distributed.nodes, 1, 20_000)
    labels: dict[str, str] = pod_template(made, gang, 1, settings)["metadata"]["labels"]
    return labels


def selects(found: Resource | None, labels: dict[str, str]) -> bool:
    assert found is not None
    chosen: dict[str, str] = found["spec"]["podSelector"]["matchLabels"]
    return chosen.items() <= labels.items()


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


def test_names_are_resolved_by_the_clusters_own_resolvers_alone() -> None:
    ((kube_dns, node_local),) = egress(policy(IN_CLUSTER, **ON_VOLUMES), 53)
    assert kube_dns == {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
        "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
    }
    assert node_local == {"ipBlock": {"cidr": "169.254.20.10/32"}}


def test_an_installation_names_other_resolvers_storage_and_readers_of_metrics() -> None:
    peer = {"ipBlock": {"cidr": "10.9.0.0/16"}}
    text = json.dumps(
        {"dns": {"to": [peer], "ports": [5353]}, "storage": {"to": [peer], "ports": [9000]}, "metricsFrom": []}
    )
    found = policy(replace(IN_CLUSTER, training_network=text), output={"storage": "s3://m"}, **ALONE)
    assert (egress(found, 5353), egress(found, 53)) == ([[peer]], [])
    assert (egress(found, 9000), egress(found, 443)) == ([[peer]], [])
    assert found is not None
    assert "ingress" not in found["spec"], "nobody comes in; an empty list would not come back from the API server"
    assert found["spec"]["policyTypes"] == ["Ingress", "Egress"]


def test_what_the_api_server_leaves_out_of_a_policy_is_not_in_it() -> None:
    """It would differ from what is wanted for ever, and be applied at every look at every job."""
    everybody = {"namespaceSelector": {"matchLabels": {}}, "podSelector": {"matchExpressions": []}}
    block = {"ipBlock": {"cidr": "10.9.0.0/16", "except": []}}
    text = json.dumps({"dns": {"to": [block]}, "metricsFrom": [everybody]})
    found = policy(replace(IN_CLUSTER, training_network=text), **ALONE)
    assert found is not None
    assert found["spec"]["ingress"][0]["from"] == [{"namespaceSelector": {}, "podSelector": {}}]
    assert egress(found, 53) == [[{"ipBlock": {"cidr": "10.9.0.0/16"}}]]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('{"dns": {"to": [{"cidr": "10.0.0.0/8"}]}}', "dns.to"),
        ('{"dns": {"to": []}}', "at least 1"),
        ('{"metricsFrom": [{"namespaceSelector": null}]}', "namespaceSelector: write its fields"),
        ('{"storage": {"ports": [70000]}}', "65535"),
        ('{"metrics": []}', "Extra inputs"),
    ],
)
def test_an_installation_that_makes_no_sense_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        training_network(text)


def reaches(found: Resource | None, address: str, port: int) -> bool:
    """As network plugins decide for an address that is none of a pod."""
    blocks = [peer["ipBlock"] for peers in egress(found, port) for peer in peers if "ipBlock" in peer]
    target = ip_address(address)
    return any(
        target in ip_network(block["cidr"]) and not any(target in ip_network(one) for one in block.get("except", ()))
        for block in blocks
    )


@pytest.mark.parametrize(
    ("address", "reached"),
    [
        ("52.216.1.1", True),  # S3
        ("2600:9000::1", True),
        ("169.254.169.254", False),  # metadata of AWS, Azure, Google Cloud
        ("fd00:ec2::254", False),
        ("100.100.100.200", False),  # and of Alibaba Cloud
        ("10.96.0.1", False),  # the API server's Service
        ("172.17.0.1", False),
        ("192.168.1.1", False),
        ("fe80::1", False),
    ],
)
def test_storage_is_on_the_internet_and_not_in_the_cluster(address: str, reached: bool) -> None:
    assert reaches(policy(IN_CLUSTER, output={"storage": "s3://m"}), address, 443) is reached


def test_a_runtime_names_its_storage_and_its_metadata_server() -> None:
    network = {
        "storage": [{"cidr": "10.20.0.0/16", "ports": [443, 9000]}],
        "egress": [{"cidr": "169.254.169.254/32", "ports": [80]}],
    }
    found = policy(IN_CLUSTER, {"network": network}, output={"storage": "s3://m"})
    assert reaches(found, "10.20.1.1", 9000)
    assert not reaches(found, "52.216.1.1", 443)
    assert reaches(found, "169.254.169.254", 80)


def test_metrics_are_read_from_the_namespace_of_the_monitoring_alone() -> None:
    found = policy(IN_CLUSTER, **ALONE, **ON_VOLUMES)
    assert found is not None
    (rule,) = found["spec"]["ingress"]
    assert rule["from"] == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]
    assert rule["ports"] == [{"port": 9400, "protocol": "TCP"}]


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


def test_pods_without_peers_share_a_policy_that_no_job_owns() -> None:
    one, other = policy(**ALONE), policy(name="other", training={"epochs": 9}, **ALONE)
    assert one is not None
    assert one == other
    assert "ownerReferences" not in one["metadata"]
    assert selects(one, pod_labels(**ALONE))
    assert not selects(one, pod_labels())


def test_a_shared_policy_lets_no_training_pod_reach_another() -> None:
    shared, own = policy(IN_CLUSTER, **ALONE, **ON_VOLUMES), policy(IN_CLUSTER, **ON_VOLUMES)
    assert shared is not None
    assert own is not None
    gang = {"podSelector": own["spec"]["podSelector"]}
    assert shared["spec"]["egress"] == [rule for rule in own["spec"]["egress"] if rule.get("to") != [gang]]
    assert shared["spec"]["ingress"] == own["spec"]["ingress"][1:]
    assert len(own["spec"]["egress"]) == len(shared["spec"]["egress"]) + 1


def test_whoever_may_reach_more_is_under_another_policy() -> None:
    opened = {"network": {"egress": [{"cidr": "10.1.0.0/16", "ports": [9000]}]}}
    cases: list[tuple[Resource | None, Settings, Resource]] = [
        (None, SETTINGS, {}),
        (None, SETTINGS, ON_VOLUMES),
        (None, IN_CLUSTER, ON_VOLUMES),
        (opened, SETTINGS, {}),
    ]
    policies = [policy(settings, runtime, **ALONE, **changes) for runtime, settings, changes in cases]
    labels = [pod_labels(runtime, settings, **ALONE, **changes) for runtime, settings, changes in cases]
    assert [[selects(one, pod) for one in policies].count(True) for pod in labels] == [1] * len(cases)
    assert len({one["metadata"]["name"] for one in policies if one}) == len(cases)


@pytest.mark.parametrize(("nodes", "isolation"), [(1, "Gang"), (2, "Gang"), (1, "None")])
def test_no_template_puts_pods_under_a_policy_that_is_not_theirs(nodes: int, isolation: str) -> None:
    template = {"metadata": {"labels": {LABEL_NETWORK: "0123456789", LABEL_JOB: "other"}}}
    runtime = {"network": {"isolation": isolation}}
    labels = pod_labels(runtime, podTemplate=template, distributed={"nodes": nodes})
    assert labels[LABEL_NETWORK] not in ("0123456789", "")
    assert labels[LABEL_JOB] == "tickets"


def test_the_account_is_made_once_and_grants_nothing() -> None:
    account, _ = (write.body for write in isolation_writes(resolved(), world(job(), has_account=False)))
    assert (account["kind"], account["metadata"]["name"]) == ("ServiceAccount", TRAINER_SERVICE_ACCOUNT)
    assert account["automountServiceAccountToken"] is False
    assert "ownerReferences" not in account["metadata"]
    (only_policy,) = isolation_writes(resolved(), world(job()))
    assert only_policy.body["kind"] == "NetworkPolicy"


@pytest.mark.parametrize("nodes", [1, 2])
def test_policies_are_put_right_and_otherwise_left_alone(nodes: int) -> None:
    mine = resolved(distributed={"nodes": nodes})
    wanted = network_policy(mine, SETTINGS)
    assert wanted is not None
    name = wanted["metadata"]["name"]
    edited = wanted | {"spec": wanted["spec"] | {"policyTypes": ["Ingress"]}}
    assert isolation_writes(mine, world(job(), policies={name: wanted})) == []
    assert isolation_writes(mine, world(job(), policies={name: edited})) == [Apply(wanted)]
    # Another's policy under a job's name is refused; the name of a shared one is ours alone.
    assert isolation_writes(mine, world(job(), policies={})) == [Apply(wanted) if nodes == 1 else Create(wanted)]


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
