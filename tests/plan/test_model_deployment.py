"""Following versions, promoting, rolling back: the plan of a ModelDeployment."""

from typing import Any

import pytest

from finetune_operator.plan.named_objects import secret
from plan.serving_world import World, serving_world, version


def test_without_an_approved_version_it_waits() -> None:
    world = World([version("v1", approved=False)])
    world.settle()
    assert world.deployment is None
    assert world.condition("Reconciling") == ("True", "NoApprovedVersion")
    assert world.condition("Stalled")[0] == "False"
    assert world.condition("Ready")[0] == "False"
    assert world.reasons() == ["NoApprovedVersion"]


def test_the_first_version_is_a_candidate_until_every_pod_is_ready() -> None:
    world = World([version("v1")])
    world.settle()
    assert (world.status["candidate"], world.status.get("stable")) == ("v1", None)
    assert world.condition("Ready")[0] == "False"
    assert world.condition("Progressing") == ("True", "RollingOut")
    world.roll_out()
    world.settle()
    assert (world.status.get("candidate"), world.status["stable"]) == (None, "v1")
    assert world.status["available"] == "2/2"
    assert world.status["url"] == "http://tickets.ml.svc"
    assert world.status["history"][-1]["outcome"] == "Promoted"
    for kind, expected in {"Ready": "True", "Available": "True", "Reconciling": "False", "Degraded": "False"}.items():
        assert world.condition(kind)[0] == expected, kind
    assert world.reasons() == ["RollingOut", "Promoted"]


def test_follows_the_newest_approved_version_by_creation_time() -> None:
    world = serving_world(version("b-old", minute=1))
    world.versions += [version("a-new", minute=2), version("c-unapproved", minute=3, approved=False)]
    world.versions.append(version("d-other", minute=4, model="other"))
    world.settle()
    assert world.serving == "a-new"
    assert (world.status["stable"], world.status["candidate"]) == ("b-old", "a-new")


def test_a_version_that_never_becomes_ready_is_rolled_back_once() -> None:
    world = serving_world(version("v1", minute=1))
    world.versions.append(version("v2", minute=2))
    world.settle()
    world.get_stuck()
    world.settle()
    assert world.serving == "v1"
    assert world.status["failedVersions"] == ["v2"]
    assert world.status.get("candidate") is None
    assert [change["outcome"] for change in world.status["history"]] == ["Promoted", "RolledBack"]
    world.roll_out()
    world.settle()
    assert world.serving == "v1"
    assert world.condition("Degraded") == ("True", "RolledBack")
    assert "v2: not ready within progressDeadlineSeconds" in world.message("Degraded")
    assert world.condition("Ready")[0] == "True"
    assert world.reasons().count("RolledBack") == 1


def test_a_crash_loop_is_rolled_back_before_the_deadline_with_the_server_s_own_words() -> None:
    world = serving_world(version("v1", minute=1))
    world.versions.append(version("v2", minute=2))
    world.settle()
    world.start_rolling()
    world.crash_pod("model.safetensors has another content (sha256 differs)")
    world.settle()
    assert world.serving == "v1"
    assert "sha256 differs" in world.status["history"][-1]["reason"]
    world.roll_out()
    world.settle()
    assert world.message("Ready").startswith(
        "v1 serves with 2 pods; rolled back: v2: pod pod-1 crashes: model.safetensors"
    )
    assert world.message("Degraded").endswith("; v1 serves")


def test_two_restarts_are_not_yet_a_crash_loop() -> None:
    world = serving_world(version("v1", minute=1))
    world.versions.append(version("v2", minute=2))
    world.settle()
    world.start_rolling()
    world.crash_pod("boom", restarts=2)
    world.step()
    assert world.message("Ready").endswith("; pod pod-1: CrashLoopBackOff: boom"), "what it says, not that it waits"
    world.settle()
    assert world.serving == "v2"


def test_the_next_version_after_a_failed_one_is_tried() -> None:
    world = serving_world(version("v1", minute=1))
    world.versions.append(version("v2", minute=2))
    world.settle()
    world.get_stuck()
    world.settle()
    world.versions.append(version("v3", minute=3))
    world.settle()
    assert world.serving == "v3"
    world.roll_out()
    world.settle()
    assert world.status["stable"] == "v3"
    assert world.condition("Degraded")[0] == "False"


def test_a_failure_that_is_too_long_ago_to_be_remembered_is_not_tried_again() -> None:
    world = serving_world(version("v00"))
    for number in range(1, 14):
        world.versions.append(version(f"v{number:02}", minute=number))
        world.settle()
        assert world.serving == f"v{number:02}"
        world.get_stuck()
        world.settle()
        assert world.serving == "v00"
        world.roll_out()
        world.settle()
    assert world.reasons().count("RolledBack") == 13


def test_a_first_version_that_fails_has_nothing_to_go_back_to() -> None:
    world = World([version("v1")])
    world.settle()
    world.get_stuck(old=0)
    world.settle()
    assert world.serving == "v1"
    assert world.status.get("failedVersions") is None
    assert world.condition("Stalled") == ("True", "RolloutFailed")
    world.pods.clear()
    world.roll_out()
    world.settle()
    assert world.status["stable"] == "v1"
    assert world.condition("Stalled")[0] == "False"


def test_a_first_version_that_fails_gives_way_to_an_older_approved_one() -> None:
    world = World([version("v1", minute=1), version("v2", minute=2)])
    world.settle()
    assert world.serving == "v2"
    world.get_stuck(old=0)
    world.settle()
    assert world.serving == "v1"
    world.roll_out()
    world.settle()
    assert world.status["stable"] == "v1"


def test_a_newer_version_replaces_a_candidate_in_mid_rollout() -> None:
    world = serving_world(version("v1", minute=1))
    world.versions.append(version("v2", minute=2))
    world.settle()
    world.start_rolling()
    world.versions.append(version("v3", minute=3))
    world.settle()
    assert (world.serving, world.status["candidate"]) == ("v3", "v3")
    assert world.status.get("failedVersions") is None


def test_deleting_the_candidate_goes_back_to_stable() -> None:
    world = serving_world(version("v1", minute=1))
    world.versions.append(version("v2", minute=2))
    world.settle()
    world.versions.pop()
    world.settle()
    assert (world.serving, world.status.get("candidate")) == ("v1", None)


# Pinning


def test_a_pin_holds_against_newer_versions() -> None:
    world = serving_world(version("v1", minute=1), spec={"modelName": "tickets", "version": "v1"})
    world.versions.append(version("v2", minute=2))
    world.settle()
    assert world.serving == "v1"
    assert world.condition("Ready")[0] == "True"


def test_a_pin_goes_back_to_an_older_version() -> None:
    world = serving_world(version("v1", minute=1), version("v2", minute=2))
    world.edit(version="v1")
    world.settle()
    assert (world.serving, world.status["candidate"]) == ("v1", "v1")


def failed_v2() -> World:
    world = serving_world(version("v1", minute=1))
    world.versions.append(version("v2", minute=2))
    world.settle()
    world.get_stuck()
    world.settle()
    world.roll_out()
    world.settle()
    return world


def test_a_pin_gives_a_failed_version_one_more_chance() -> None:
    world = failed_v2()
    world.edit(version="v2")
    world.settle()
    assert world.serving == "v2"
    world.roll_out()
    world.settle()
    assert world.status["stable"] == "v2"
    assert world.status.get("failedVersions") is None
    world.edit(version=None)
    world.settle()
    assert world.serving == "v2"


def test_a_pinned_version_that_fails_again_is_not_tried_for_ever() -> None:
    world = failed_v2()
    world.edit(version="v2")
    world.settle()
    world.get_stuck()
    world.settle()
    world.roll_out()
    world.settle()
    assert world.serving == "v1"
    assert world.condition("Stalled") == ("True", "RolledBack")
    assert world.condition("Ready")[0] == "False"
    world.edit(replicas=3)
    world.settle()
    assert world.serving == "v1", "an autoscaler's edit is no new wish"
    world.edit(version=None)
    world.settle()
    assert world.serving == "v1"


@pytest.mark.parametrize(
    ("pin", "reason", "says"),
    [
        ("nowhere", "VersionNotFound", "'nowhere'"),
        ("other", "VersionOfOtherModel", "'other-model'"),
        ("manual", "VersionNotApproved", "approve it"),
    ],
)
def test_a_pin_that_cannot_be_followed_changes_nothing(pin: str, reason: str, says: str) -> None:
    world = serving_world(
        version("v1", minute=1),
        version("other", minute=2, model="other-model"),
        version("manual", minute=3, approved=False),
    )
    world.edit(version=pin)
    world.settle()
    assert world.serving == "v1"
    assert world.condition("Stalled") == ("True", reason)
    assert says in world.message("Stalled")
    assert world.condition("Available")[0] == "True"


# Records that go away


def test_deleting_the_version_that_serves_changes_nothing() -> None:
    world = serving_world(version("v1", minute=1), version("v2", minute=2))
    assert world.status["stable"] == "v2"
    world.versions.pop()
    before = world.deployment
    world.settle()
    assert world.deployment == before
    assert world.condition("Ready")[0] == "True"


def test_a_rollback_needs_no_record_of_the_stable_version() -> None:
    world = serving_world(version("v1", minute=1))
    world.versions[:] = [version("v2", minute=2)]
    world.settle()
    assert world.serving == "v2"
    world.get_stuck()
    world.settle()
    assert world.serving == "v1"


def test_withdrawn_approval_goes_back_to_the_newest_approved_version() -> None:
    world = serving_world(version("v1", minute=1), version("v2", minute=2))
    world.versions[1]["status"]["approved"] = False
    world.settle()
    assert world.serving == "v1"


def test_withdrawn_approval_of_the_only_version_keeps_serving() -> None:
    world = serving_world(version("v1"))
    world.versions[0]["status"]["approved"] = False
    world.settle()
    assert world.serving == "v1"


# Scale and edits


@pytest.mark.parametrize("replicas", [0, 1, 5])
def test_the_scale_is_the_spec_s(replicas: int) -> None:
    world = serving_world(version("v1"))
    world.edit(replicas=replicas)
    world.settle()
    assert world.deployment
    assert world.deployment["spec"]["replicas"] == replicas
    world.roll_out()
    world.settle()
    assert world.status["available"] == f"{replicas}/{replicas}"
    assert world.status["replicas"] == replicas
    assert world.condition("Ready")[0] == "True"


def test_a_version_that_never_ran_is_not_promoted() -> None:
    world = serving_world(version("v1", minute=1))
    world.edit(replicas=0)
    world.versions.append(version("v2", minute=2))
    world.settle()
    world.roll_out()
    world.settle()
    assert (world.status["stable"], world.status["candidate"]) == ("v1", "v2")


def test_a_mended_spec_is_judged_by_its_own_rollout() -> None:
    world = serving_world(version("v1", minute=1))
    world.versions.append(version("v2", minute=2))
    world.step()
    world.get_stuck()
    world.crash_pod("out of memory")
    world.edit(resources={"limits": {"memory": "4Gi"}})
    world.step()
    assert world.serving == "v2", "the failure was that of the old spec"
    world.start_rolling()
    world.settle()
    assert world.serving == "v2"
    assert world.status.get("failedVersions") is None


def test_missing_pods_degrade_but_never_roll_back_what_is_stable() -> None:
    world = serving_world(version("v1", minute=1), version("v2", minute=2))
    assert world.deployment
    world.deployment["status"]["availableReplicas"] = 1
    world.settle()
    assert world.serving == "v2"
    assert world.condition("Degraded") == ("True", "PodsMissing")
    assert world.condition("Available")[0] == "False"


# Bad input


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({"modelName": "tickets", "replicas": -1}, "spec.replicas"),
        ({"modelName": "Tickets!"}, "spec.modelName"),
        ({"modelName": "tickets", "colour": "red"}, "spec.colour: unknown field"),
        ({"modelName": "tickets", "podTemplate": {"spec": {"containers": [{"image": "x"}]}}}, "spec.podTemplate.spec"),
    ],
)
def test_an_invalid_spec_stalls_and_touches_nothing(spec: dict[str, Any], says: str) -> None:
    world = World([version("v1")], spec=spec)
    world.settle()
    assert world.deployment is None
    assert world.condition("Stalled") == ("True", "InvalidSpec")
    assert says in world.message("Stalled")
    assert world.reasons() == ["InvalidSpec"]


def test_everything_that_is_wrong_is_told_at_once() -> None:
    world = World([version("v1")], spec={"modelName": "Tickets!", "replicas": -1, "colour": "red"})
    world.settle()
    paths = {line.partition(":")[0] for line in world.message("Stalled").splitlines()}
    assert paths == {"spec.modelName", "spec.replicas", "spec.colour"}


def test_an_invalid_edit_keeps_what_serves() -> None:
    world = serving_world(version("v1"))
    world.edit(replicas=-1)
    plan = world.step()
    assert plan.objects == []
    assert world.status["stable"] == "v1"


def test_a_name_that_no_service_can_have_is_refused() -> None:
    world = World([version("v1")], name="1-tickets")
    world.settle()
    assert world.condition("Stalled") == ("True", "InvalidName")


@pytest.mark.parametrize("kind", ["deployment", "service"])
def test_objects_of_others_are_not_taken_over(kind: str) -> None:
    world = World([version("v1")])
    foreign = {
        "kind": kind.title(),
        "metadata": {"name": "tickets"},
        "spec": {"template": {"metadata": {}}},
    }
    setattr(world, kind, foreign)
    plan = world.step()
    assert plan.objects == []
    assert world.condition("Stalled") == ("True", "NameTaken")


def test_what_the_api_server_refuses_is_shown() -> None:
    world = World([version("v1")], refused="Deployment: spec.template.spec.containers[0].image: Required value")
    world.settle()
    assert world.condition("Stalled") == ("True", "Refused")
    assert "Required value" in world.message("Stalled")


def test_an_adapter_on_an_unknown_base_is_refused() -> None:
    adapter = version("v1", format="Adapter", baseModel={"source": "modelversion://nowhere"})
    world = World([adapter])
    world.settle()
    assert world.condition("Stalled") == ("True", "BaseModelUnknown")


def test_a_version_whose_secret_is_missing_waits_for_it_instead_of_being_rolled_back() -> None:
    world = serving_world(version("v1"))
    world.versions.append(version("v2", minute=1, credentials={"secretName": "s3"}))
    world.edit(podTemplate={"spec": {"volumes": [{"name": "keys", "secret": {"secretName": "keys"}}]}})
    assert set(world.plan().secrets) == {"s3", "keys"}
    world.absent = frozenset({secret("s3"), secret("keys")})
    world.step()
    assert world.serving == "v1"
    assert (world.condition("Progressing"), world.condition("Stalled")[0]) == (("True", "SecretNotFound"), "False")
    mend = "in namespace ml; create it, or correct the name"
    assert world.message("Progressing").splitlines() == [
        f"spec.credentials of ModelVersion 'v2': there is no Secret 's3' {mend}",
        f"spec.podTemplate.spec.volumes[keys].secret.secretName: there is no Secret 'keys' {mend}",
    ]
    world.absent = frozenset()
    world.settle()
    assert world.serving == "v2"


def test_a_secret_that_goes_when_its_version_is_rolled_out_or_serves_stops_nothing() -> None:
    world = World([version("v1", credentials={"secretName": "s3"})])
    world.step()
    world.absent = frozenset({secret("s3")})
    assert world.plan().secrets == ()
    world.roll_out()
    world.settle()
    world.edit(replicas=3, podTemplate={"metadata": {"labels": {"team": "a"}}})
    world.settle()
    assert (world.serving, world.deployment["spec"]["replicas"]) == ("v1", 3)
    assert world.status["stable"] == "v1"
