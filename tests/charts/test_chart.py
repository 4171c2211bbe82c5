"""What the chart renders, for several sets of values."""

from pathlib import Path
from re import fullmatch
from typing import Any

import pytest
from helm_python import Chart, lint
from helm_python.errors import HelmRenderError, HelmValuesError

from charts.conftest import ALL_VALUES, CHART, NAMESPACE, ROOT, Render, Rendered, values_file
from finetune_api import ClusterTrainingRuntime
from finetune_api.crds import CUSTOM_RESOURCES
from finetune_operator.cli.certificate_options import check_certificates
from finetune_operator.cli.run import listed, run
from finetune_operator.options import LEASE, Options
from finetune_operator.plan.training_network import Dns, TrainingNetwork, training_network

INFO = 1
TLS_MOUNT = "/etc/finetune-operator/tls"
PROGRESS_TLS_MOUNT = "/etc/finetune-operator/progress-tls"
PROGRESS_HOST = f"finetune-operator-progress.{NAMESPACE}.svc"
WEBHOOK_HOST = f"finetune-operator-webhooks.{NAMESPACE}.svc"
CERT_MANAGER = {"tls": {"certManager": {"enabled": True}}}


def options(arguments: list[str]) -> dict[str, Any]:
    """The arguments of `finetune-operator run`, parsed by the command itself."""
    return run.make_context("run", list(arguments)).params


@pytest.mark.parametrize("name", ALL_VALUES)
def test_helm_lint_finds_nothing(name: str) -> None:
    report = lint(str(CHART), values_file(name), strict=True, namespace=NAMESPACE)
    assert report["errors"] == []
    assert [message for message in report["messages"] if message["severity"] > INFO] == []


def test_the_chart_has_no_hooks_and_nothing_that_changes_from_rendering_to_rendering(
    render: Render, chart: Chart
) -> None:
    sources = "".join(template["data"] for template in chart.templates)
    for forbidden in ("helm.sh/hook", "lookup ", "rand", "genCA", "genSignedCert", "now |", "uuidv4"):
        assert forbidden not in sources
    assert render().all == render().all


@pytest.mark.parametrize("name", ALL_VALUES)
def test_no_object_is_rendered_twice_and_all_have_the_usual_labels(render: Render, name: str) -> None:
    manifests = render(values_file(name)).all
    names = [(m["kind"], m["metadata"].get("namespace"), m["metadata"]["name"]) for m in manifests]
    assert len(names) == len(set(names))
    for manifest in manifests:
        labels = manifest["metadata"]["labels"]
        assert labels["app.kubernetes.io/name"] == "finetune-operator", manifest["kind"]
        assert labels["app.kubernetes.io/managed-by"] == "Helm"


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"replicas": 3}, "replicas"),
        ({"replicaCount": "2"}, "/replicaCount"),
        ({"replicaCount": -1}, "/replicaCount"),
        ({"watch": {"namespaces": ["Team A"]}}, "/watch/namespaces/0"),
        ({"watch": {"namespaces": "team-a"}}, "/watch/namespaces"),
        ({"image": {"digest": "latest"}}, "/image/digest"),
        ({"image": {"pullPolicy": "Sometimes"}}, "/image/pullPolicy"),
        ({"progress": {"tls": {"secret": "x"}}}, "/progress/tls"),
        ({"progress": {"url": "operator:8443"}}, "/progress/url"),
        ({"trainingNetwork": {"dns": {"to": [{"cidr": "10.0.0.0/8"}]}}}, "/trainingNetwork/dns/to/0"),
        ({"webhooks": {"failurePolicy": "ignore"}}, "/webhooks/failurePolicy"),
        ({"webhooks": {"timeoutSeconds": 60}}, "/webhooks/timeoutSeconds"),
        ({"metrics": {"serviceMonitor": {"interval": "often"}}}, "interval"),
    ],
)
def test_values_that_make_no_sense_are_refused_by_name(render: Render, values: dict[str, Any], complaint: str) -> None:
    with pytest.raises(HelmValuesError, match=complaint):
        render(values)


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"leaderElection": {"enabled": False}}, "set replicaCount to 1"),
        ({"serviceAccount": {"create": False}}, "serviceAccount.name is needed"),
        ({"progress": {"url": "http://operator.example.com"}}, "progress.url is plain http"),
    ],
)
def test_values_that_do_not_fit_together_are_refused(render: Render, values: dict[str, Any], complaint: str) -> None:
    with pytest.raises(HelmRenderError, match=complaint):
        render(values)


@pytest.mark.parametrize("name", ALL_VALUES)
def test_the_operator_understands_the_arguments_that_it_is_given(render: Render, name: str, tmp_path: Path) -> None:
    container = render(values_file(name)).container
    assert container["command"] == ["finetune-operator", "run"]
    for key in ("tls.crt", "tls.key", "ca.crt"):
        (tmp_path / key).touch()
    mounted = "\n".join(container["args"]).replace(TLS_MOUNT, str(tmp_path)).replace(PROGRESS_TLS_MOUNT, str(tmp_path))
    parsed = options(mounted.splitlines())
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {
        "metrics": parsed["metrics_port"],
        "probes": parsed["probe_port"],
        "progress": parsed["progress_port"],
        "webhooks": parsed["webhook_port"],
    }
    chosen = {name: parsed[name] for name in Options.__dataclass_fields__ if name in parsed}
    check_certificates(Options(**chosen | {"tls_names": listed(parsed["tls_names"])}))


def test_defaults_are_two_replicas_that_elect_a_leader(render: Render) -> None:
    rendered = render()
    parsed = options(rendered.container["args"])
    assert rendered.one("Deployment")["spec"]["replicas"] == 2
    assert parsed["leader_elect"] is True
    assert parsed["leader_election_namespace"] == NAMESPACE
    assert parsed["namespaces"] == ""
    assert parsed["progress_url"] == f"https://{PROGRESS_HOST}"
    assert rendered.one("PodDisruptionBudget")["spec"]["maxUnavailable"] == 1
    role = rendered.one("Role", "finetune-operator-leader")
    assert role["rules"][0]["resourceNames"] == [LEASE]


def test_without_a_lease_an_upgrade_waits_until_the_old_operator_has_gone(render: Render) -> None:
    assert render(values_file("borrowed-rights")).one("Deployment")["spec"]["strategy"] == {"type": "Recreate"}
    assert "strategy" not in render().one("Deployment")["spec"]


@pytest.mark.parametrize("name", ALL_VALUES)
def test_selectors_pick_the_operators_pods(render: Render, name: str) -> None:
    rendered = render(values_file(name))
    labels = rendered.pod["metadata"]["labels"].items()
    selectors = [rendered.one("Deployment")["spec"]["selector"]["matchLabels"]]
    selectors += [service["spec"]["selector"] for service in rendered.of("Service")]
    selectors += [pdb["spec"]["selector"]["matchLabels"] for pdb in rendered.of("PodDisruptionBudget")]
    selectors += [policy["spec"]["podSelector"]["matchLabels"] for policy in rendered.of("NetworkPolicy")]
    for selector in selectors:
        assert selector.items() <= labels
    ports = {port["name"] for port in rendered.container["ports"]}
    for service in rendered.of("Service"):
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports


def test_progress_comes_over_https_unless_that_is_switched_off(render: Render) -> None:
    for values, scheme, port in (({}, "https", 443), ({"progress": {"tls": {"enabled": False}}}, "http", 80)):
        rendered = render(values)
        service = rendered.one("Service", "finetune-operator-progress")
        assert [p["port"] for p in service["spec"]["ports"]] == [port]
        assert f"--progress-url={scheme}://{PROGRESS_HOST}" in rendered.container["args"]
        assert ("--no-progress-tls" in rendered.container["args"]) is (scheme == "http")
        assert ("as safe as the network" in rendered.notes) is (scheme == "http")


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ({}, [WEBHOOK_HOST, PROGRESS_HOST]),
        ({"webhooks": {"enabled": False}}, [PROGRESS_HOST]),
        ({"progress": {"url": "https://tuner.example.com:8443/base"}}, [WEBHOOK_HOST, "tuner.example.com"]),
        ({"progress": {"tls": {"secretName": "mine"}}}, [WEBHOOK_HOST]),
        ({"progress": {"tls": {"enabled": False}}}, [WEBHOOK_HOST]),
        ({"progress": {"tls": {"enabled": False}}, "webhooks": {"enabled": False}}, []),
    ],
)
@pytest.mark.parametrize("cert_manager", [False, True])
def test_one_certificate_has_the_names_of_all_that_shows_it(
    render: Render, values: dict[str, Any], names: list[str], cert_manager: bool
) -> None:
    rendered = render(values | {"tls": {"certManager": {"enabled": cert_manager}}})
    shown = [argument for argument in rendered.container["args"] if argument.startswith("--tls-names=")]
    certificates = [one for one in rendered.of("Certificate") if not one["spec"].get("isCA")]
    assert shown == ([f"--tls-names={','.join(names)}"] if names and not cert_manager else [])
    assert [one["spec"]["dnsNames"] for one in certificates] == ([names] if names and cert_manager else [])
    assert len(rendered.of("Secret")) == (names != [] and not cert_manager)


def test_an_authority_of_cert_manager_keeps_its_key_so_that_running_pods_go_on_trusting_it(render: Render) -> None:
    certificates = {one["metadata"]["name"]: one["spec"] for one in render(CERT_MANAGER).of("Certificate")}
    leaf, authority = certificates["finetune-operator-tls"], certificates["finetune-operator-tls-authority"]
    issuers = {one["metadata"]["name"]: one["spec"] for one in render(CERT_MANAGER).of("Issuer")}
    assert issuers[leaf["issuerRef"]["name"]] == {"ca": {"secretName": authority["secretName"]}}
    assert issuers[authority["issuerRef"]["name"]] == {"selfSigned": {}}
    assert (authority["isCA"], authority["privateKey"]["rotationPolicy"]) == (True, "Never")


@pytest.mark.parametrize(
    ("values", "secret", "mount"),
    [
        ({"progress": {"tls": {"secretName": "mine"}}}, "mine", PROGRESS_TLS_MOUNT),
        (CERT_MANAGER, "finetune-operator-tls", TLS_MOUNT),
    ],
)
def test_certificates_of_others_are_mounted(render: Render, values: dict[str, Any], secret: str, mount: str) -> None:
    rendered = render(values)
    mounts = {one["mountPath"]: one["name"] for one in rendered.container["volumeMounts"]}
    files = [a.split("=", 1)[1] for a in rendered.container["args"] if a.startswith("--progress-tls-")]
    assert files == [f"{mount}/{name}" for name in ("tls.crt", "tls.key", "ca.crt")]
    assert {"name": mounts[mount], "secret": {"secretName": secret}} in rendered.pod["spec"]["volumes"]


def test_the_network_of_training_pods_is_the_operators_default_unless_it_is_set(render: Render) -> None:
    peer = {"ipBlock": {"cidr": "10.0.0.10/32"}}
    told = options(render().container["args"])["training_network"]
    changed = options(render({"trainingNetwork": {"dns": {"to": [peer]}}}).container["args"])["training_network"]
    assert training_network(told) == TrainingNetwork()
    assert training_network(changed) == TrainingNetwork(dns=Dns(to=[peer]))


def test_only_training_pods_reach_the_receiver_unless_something_stands_before_it(render: Render) -> None:
    policy = {"networkPolicy": {"enabled": True}}
    for values, namespaces in (({}, "{}"), (values_file("namespaced"), "team-a")):
        (rule,) = progress_rules(render(values | policy))
        (peer,) = rule["from"]
        assert peer["podSelector"] == {"matchLabels": {"finetune-operator.io/component": "trainer"}}
        assert namespaces in str(peer["namespaceSelector"])
    (rule,) = progress_rules(render(policy | {"progress": {"url": "https://tuner.example.com"}}))
    assert "from" not in rule, "an ingress controller is no training pod"


def progress_rules(rendered: Rendered) -> list[dict[str, Any]]:
    rules: list[dict[str, Any]] = rendered.one("NetworkPolicy")["spec"]["ingress"]
    return [rule for rule in rules if rule["ports"][0]["port"] == "progress"]


@pytest.mark.parametrize("name", ALL_VALUES)
def test_the_pods_meet_the_restricted_pod_security_standard(render: Render, name: str) -> None:
    rendered = render(values_file(name))
    pod, container = rendered.pod["spec"], rendered.container
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not [volume for volume in pod["volumes"] if "hostPath" in volume]


def test_webhooks_are_asked_about_the_watched_namespaces_by_the_policy_of_the_values(render: Render) -> None:
    for values, policy, selector in (
        ({}, "Ignore", None),
        ({"webhooks": {"failurePolicy": "Fail", "namespaceSelector": {"matchLabels": {"a": "b"}}}}, "Fail", "a"),
        (values_file("namespaced"), "Ignore", "kubernetes.io/metadata.name"),
        (values_file("namespaced") | {"webhooks": {"namespaceSelector": {"matchLabels": {"a": "b"}}}}, "Ignore", "'a'"),
    ):
        rendered = render(values)
        for kind, path in (("Validating", "/validate"), ("Mutating", "/default")):
            jobs, runtimes = rendered.one(f"{kind}WebhookConfiguration")["webhooks"]
            assert (jobs["failurePolicy"], runtimes["failurePolicy"]) == (policy, "Ignore")
            assert {jobs["clientConfig"]["service"]["path"], runtimes["clientConfig"]["service"]["path"]} == {path}
            assert ("namespaceSelector" in jobs) is bool(selector)
            assert (selector or "") in str(jobs.get("namespaceSelector"))
            plurals = {one for hook in (jobs, runtimes) for one in hook["rules"][0]["resources"]}
            assert plurals == {resource.plural for resource in CUSTOM_RESOURCES}
        service = rendered.one("Service", jobs["clientConfig"]["service"]["name"])
        assert [port["port"] for port in service["spec"]["ports"]] == [jobs["clientConfig"]["service"]["port"]]
    assert not render({"webhooks": {"enabled": False}}).of("ValidatingWebhookConfiguration")


def test_everything_on_renders_every_optional_object(render: Render) -> None:
    rendered = render(values_file("everything"))
    for kind in ("ServiceMonitor", "PrometheusRule", "NetworkPolicy", "PodDisruptionBudget", "ClusterTrainingRuntime"):
        rendered.one(kind)
    ClusterTrainingRuntime.model_validate(rendered.one("ClusterTrainingRuntime"))
    assert rendered.container["image"] == f"registry.example.com/operator:1.2.3@sha256:{'a' * 64}"
    assert rendered.pod["spec"]["topologySpreadConstraints"] == []
    assert {m["metadata"]["labels"]["platform.example.com/team"] for m in rendered.all} == {"ml"}


def identities(rendered: Rendered) -> set[tuple[str, str | None, str]]:
    return {(m["kind"], m["metadata"].get("namespace"), m["metadata"]["name"]) for m in rendered.all}


@pytest.mark.parametrize("second", [{"name": "green", "namespace": "one"}, {"name": "blue", "namespace": "two"}])
def test_two_releases_in_one_cluster_do_not_meet(render: Render, second: dict[str, str]) -> None:
    """Neither in one namespace nor by one name: not in their objects, and not in the Lease that they wait for."""
    everything = values_file("everything") | {"fullnameOverride": "", "clusterTrainingRuntimes": {}}
    for values in ({}, everything):
        releases = [
            render(values | {"watch": {"namespaces": [team]}} | own_account(place), **place)
            for team, place in (("team-a", {"name": "blue", "namespace": "one"}), ("team-b", second))
        ]
        first, other = (identities(one) for one in releases)
        assert first.isdisjoint(other)
        leases = []
        for one in releases:
            told = dict(argument.split("=", 1) for argument in one.container["args"] if "=" in argument)
            name = told["--leader-election-name"]
            leases.append((told["--leader-election-namespace"], name))
            leader = next(role for role in one.of("Role") if role["metadata"]["name"].endswith("-leader"))
            assert leader["rules"][0]["resourceNames"] == [name]
            assert fullmatch(".*finetune-operator.*", name), "by which the alert finds it"
        assert leases[0] != leases[1]


def own_account(place: dict[str, str]) -> dict[str, Any]:
    return {"serviceAccount": {"name": place["name"]}}


def test_the_operator_keeps_the_trust_of_the_webhooks_that_are_its_own(render: Render) -> None:
    for values in ({}, {"watch": {"namespaces": ["team-a"]}}):
        rendered = render(values)
        name = options(rendered.container["args"])["webhook_configuration"]
        for kind in ("ValidatingWebhookConfiguration", "MutatingWebhookConfiguration"):
            assert rendered.one(kind)["metadata"]["name"] == name
        (role,) = (one for one in rendered.of("ClusterRole") if "resourceNames" in str(one))
        assert [rule["resourceNames"] for rule in role["rules"] if "resourceNames" in rule] == [[name]]


def test_the_longest_names_are_taken(render: Render) -> None:
    """Of what has limits of its own: Services 63, the common name of a certificate 64."""
    rendered = render(CERT_MANAGER, name="a" * 53)
    assert all(len(one["metadata"]["name"]) <= 63 for one in rendered.of("Service"))
    assert all(len(one["spec"].get("commonName", "")) <= 64 for one in rendered.of("Certificate"))


def test_the_notes_say_where_the_operator_works(render: Render) -> None:
    assert "all namespaces" in render().notes
    assert "team-a, team-b" in render(values_file("namespaced")).notes


def test_the_crds_are_the_committed_ones() -> None:
    committed = (ROOT / "manifests" / "crds" / "crds.yaml").read_bytes()
    assert (CHART / "crds" / "crds.yaml").read_bytes() == committed
