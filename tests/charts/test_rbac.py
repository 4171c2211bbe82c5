"""The operator's rights: enough for what it does, and nothing that a platform team would have to argue about."""

from itertools import product
from typing import Any, cast

import pytest
import yaml

from charts.conftest import ALL_VALUES, CHART, NAMESPACE, RELEASE, Render, Rendered, values_file
from finetune_operator.controllers.carry_out import KINDS, POD_GROUPS
from finetune_operator.controllers.look_ups import PLURALS
from finetune_operator.kube.client import KubeApi
from finetune_operator.kube.resources import SECRETS, Kind
from finetune_operator.operator import build_caches
from finetune_operator.schedulers.kueue import QUEUE_APIS, QUEUE_KIND

Right = tuple[str, str, str]
"""API group, resource, verb."""
SENSITIVE = {"secrets", "pods/exec", "pods/attach", "serviceaccounts/token", "nodes", "namespaces"}
CLUSTER_SCOPED = {("finetune-operator.io", "clustertrainingruntimes", verb) for verb in ("get", "list", "watch")} | {
    ("authentication.k8s.io", "tokenreviews", "create"),
    ("", "nodes", "get"),
}
WEBHOOKS, CERTIFICATE = f"{RELEASE}-webhooks", f"{RELEASE}-tls"
OWN_CONFIGURATIONS = {
    ("admissionregistration.k8s.io", f"{kind}webhookconfigurations", verb)
    for kind in ("validating", "mutating")
    for verb in ("get", "update")
}


def rights(*roles: dict[str, Any]) -> set[Right]:
    return {
        right
        for role in roles
        for rule in role["rules"]
        for right in product(rule["apiGroups"], rule["resources"], rule["verbs"])
    }


def operator_roles(rendered: Rendered) -> list[dict[str, Any]]:
    """The roles that are bound to the operator's service account."""
    bindings = rendered.of("ClusterRoleBinding") + rendered.of("RoleBinding")
    names = {(b["roleRef"]["kind"], b["roleRef"]["name"], b["metadata"].get("namespace")) for b in bindings}
    roles = rendered.of("ClusterRole") + rendered.of("Role")
    return [r for r in roles if (r["kind"], r["metadata"]["name"], r["metadata"].get("namespace")) in names]


def right(kind: Kind, verb: str, subresource: str = "") -> Right:
    group = kind.api_version.rpartition("/")[0]
    return group, f"{kind.plural}/{subresource}" if subresource else kind.plural, verb


@pytest.mark.parametrize("name", ALL_VALUES)
def test_no_wildcard_no_list_of_secrets_no_way_to_more_rights(render: Render, name: str) -> None:
    rendered = render(values_file(name))
    roles = [
        role for role in rendered.of("ClusterRole") + rendered.of("Role") if role["metadata"]["name"] != CERTIFICATE
    ]
    for group, resource, verb in rights(*roles):
        assert "*" not in (group, resource, verb)
        # Whether a pod was lost with its node, and whether a Secret is there: both by name.
        assert resource not in SENSITIVE or (resource, verb) in {("nodes", "get"), ("secrets", "get")}
        assert group != "rbac.authorization.k8s.io"
        assert verb not in {"escalate", "bind", "impersonate"}


@pytest.mark.parametrize("name", ["default", "namespaced"])
def test_the_look_for_secrets_and_its_right_are_switched_off_together(render: Render, name: str) -> None:
    on, off = (render(values_file(name) | {"secretLookup": {"enabled": enabled}}) for enabled in (True, False))
    found = [role["metadata"]["name"] for role in operator_roles(on) if ("", "secrets", "get") in rights(role)]
    assert set(found) == {RELEASE, CERTIFICATE}
    assert [role for role in operator_roles(off) if ("", "secrets", "get") in rights(role)] == [
        off.one("Role", CERTIFICATE)
    ]
    assert ["--no-look-up-secrets" in each.container["args"] for each in (on, off)] == [False, True]


def test_the_only_secret_it_may_change_is_its_own_certificate(render: Render) -> None:
    rendered = render()
    assert rendered.one("Secret")["metadata"]["name"] == CERTIFICATE
    assert not {"data", "stringData"} & set(rendered.one("Secret"))
    (rule,) = rendered.one("Role", CERTIFICATE)["rules"]
    assert rule == {
        "apiGroups": [""],
        "resources": ["secrets"],
        "resourceNames": [CERTIFICATE],
        "verbs": ["get", "update"],
    }
    named = [
        r for r in rendered.one("ClusterRole", RELEASE)["rules"] if "admissionregistration.k8s.io" in r["apiGroups"]
    ]
    assert [rule["resourceNames"] for rule in named] == [[WEBHOOKS]]


def test_with_cert_manager_it_changes_no_secret_and_no_configuration(render: Render) -> None:
    rendered = render({"tls": {"certManager": {"enabled": True}}})
    assert not rendered.of("Secret")
    assert ("", "secrets", "update") not in rights(*operator_roles(rendered))
    assert not rights(*operator_roles(rendered)) & OWN_CONFIGURATIONS
    for kind in ("Validating", "Mutating"):
        annotations = rendered.one(f"{kind}WebhookConfiguration")["metadata"]["annotations"]
        assert annotations == {"cert-manager.io/inject-ca-from": f"{NAMESPACE}/{CERTIFICATE}"}


@pytest.mark.parametrize("name", ["default", "namespaced"])
def test_the_operator_may_watch_what_its_caches_hold(render: Render, name: str) -> None:
    granted = rights(*operator_roles(render(values_file(name))))
    jobs, servings = build_caches(cast(KubeApi, None), ())  # nothing is called before they run
    informers = [informer for cache in (*jobs, *servings) for informer in cache.all()]
    assert informers
    for informer, verb in product(informers, ("get", "list", "watch")):
        assert right(informer.kind, verb) in granted


def test_the_operator_may_create_what_its_plans_make(render: Render) -> None:
    granted = rights(*operator_roles(render()))
    made = [kind for name, kind in KINDS.items() if name not in {"FineTuneJob", "Pod"}]
    for kind in (*made, *POD_GROUPS.values()):
        assert right(kind, "create") in granted, kind


def test_the_operator_may_look_for_what_it_asks_for_by_name(render: Render) -> None:
    granted = rights(*operator_roles(render()))
    queues = [Kind(version, QUEUE_KIND, PLURALS[QUEUE_KIND]) for version in QUEUE_APIS]
    for kind in (SECRETS, *queues, *POD_GROUPS.values()):
        assert right(kind, "get") in granted, kind
        assert PLURALS[kind.kind] == kind.plural


def test_the_operator_never_changes_a_spec_that_people_own(render: Render) -> None:
    granted = rights(*operator_roles(render()))
    ours = {(resource, verb) for group, resource, verb in granted if group == "finetune-operator.io"}
    assert not {(resource, verb) for resource, verb in ours if "/" not in resource and verb in {"patch", "update"}}
    assert ("modelversions", "delete") not in ours


def test_statuses_of_all_kinds_with_one_may_be_written(render: Render) -> None:
    granted = rights(*operator_roles(render()))
    crds = yaml.safe_load_all((CHART / "crds" / "crds.yaml").read_text())
    with_status = [c for c in crds if c and "status" in c["spec"]["versions"][0].get("subresources", {})]
    assert with_status
    for crd in with_status:
        assert ("finetune-operator.io", f"{crd['spec']['names']['plural']}/status", "patch") in granted


def test_namespaced_mode_grants_across_the_cluster_only_what_has_no_namespace(render: Render) -> None:
    wide, narrow = render(), render(values_file("namespaced"))
    assert rights(narrow.one("ClusterRole", f"{RELEASE}-{NAMESPACE}")) == CLUSTER_SCOPED | OWN_CONFIGURATIONS
    roles = [role for role in narrow.of("Role") if role["metadata"]["name"] == "finetune-operator"]
    assert {role["metadata"]["namespace"] for role in roles} == {"team-a", "team-b"}
    everywhere = rights(wide.one("ClusterRole", "finetune-operator"))
    for role in roles:
        assert rights(role) | CLUSTER_SCOPED | OWN_CONFIGURATIONS == everywhere
    assert "--namespaces=team-a,team-b" in narrow.container["args"]


@pytest.mark.parametrize("name", ["default", "namespaced", "everything"])
def test_every_binding_leads_from_the_operators_account_to_a_role_that_exists(render: Render, name: str) -> None:
    rendered = render(values_file(name))
    account = rendered.one("ServiceAccount")["metadata"]
    assert rendered.pod["spec"]["serviceAccountName"] == account["name"]
    for binding in rendered.of("RoleBinding") + rendered.of("ClusterRoleBinding"):
        subject = {"kind": "ServiceAccount", "name": account["name"], "namespace": NAMESPACE}
        assert binding["subjects"] == [subject]
    assert len(operator_roles(rendered)) == len(rendered.of("RoleBinding") + rendered.of("ClusterRoleBinding"))


def test_borrowed_rights_leave_accounts_and_roles_alone(render: Render) -> None:
    rendered = render(values_file("borrowed-rights"))
    kinds = {manifest["kind"] for manifest in rendered.all}
    webhooks = {"Secret", "MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"}
    assert kinds == {"Deployment", "Service"} | webhooks
    assert rendered.pod["spec"]["serviceAccountName"] == "platform-robot"


def test_people_get_our_kinds_with_the_built_in_roles(render: Render) -> None:
    rendered = render()
    prefix = "rbac.authorization.k8s.io/aggregate-to-"
    covered: dict[str, set[Right]] = {"view": set(), "edit": set(), "admin": set()}
    for role in rendered.of("ClusterRole"):
        for built_in, granted in covered.items():
            if role["metadata"]["labels"].get(prefix + built_in) == "true":
                granted |= rights(role)
    assert {verb for _, _, verb in covered["view"]} == {"get", "list", "watch"}
    assert covered["view"] < covered["edit"] < covered["admin"]
    assert ("finetune-operator.io", "finetunejobs", "create") in covered["edit"]
    assert ("finetune-operator.io", "trainingruntimes", "create") not in covered["edit"]
    assert ("finetune-operator.io", "trainingruntimes", "create") in covered["admin"]
