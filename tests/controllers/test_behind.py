"""Reconciles whose caches are behind: of a decision that was made on an old state nothing takes effect."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from controllers.cluster_user import NAMESPACE, ClusterUser
from controllers.serving_user import ServingUser
from finetune_api.names import PROGRESS_FIELD_MANAGER
from finetune_api.reports import ProgressReport
from finetune_local.cluster import Cluster
from finetune_operator.controllers import fine_tune_job, model_deployment, model_version
from finetune_operator.controllers.carry_out import CannotCreate, PlanCarrier, own_status
from finetune_operator.controllers.job_caches import JobCaches
from finetune_operator.controllers.serving_caches import ServingCaches
from finetune_operator.kinds import FINE_TUNE_JOBS, MODEL_DEPLOYMENTS, MODEL_VERSIONS
from finetune_operator.kube.client import KubeApi
from finetune_operator.kube.errors import ApiError
from finetune_operator.kube.events import EventRecorder
from finetune_operator.kube.expectations import Expectations
from finetune_operator.kube.informer import Informer
from finetune_operator.kube.resources import CONFIG_MAPS, DEPLOYMENTS, JOBS, SERVICES, Kind
from finetune_operator.plan.ownership import owner_reference
from finetune_operator.plan.reasons import Reason
from finetune_operator.plan.world import Create, Delete, Event, Plan
from finetune_operator.web.progress_writer import ProgressWriter
from plan.builders import SETTINGS

Resource = dict[str, Any]
KEY = (NAMESPACE, "tickets")


class Reconcilers:
    """Of all three kinds, over caches that show only what a test puts there."""

    def __init__(self, api: KubeApi) -> None:
        self.recorder = recorder = EventRecorder(api, "finetune-operator")
        self.jobs = JobCaches.build(api, None)
        self.servings = ServingCaches.build(
            api, None, versions=self.jobs.versions, model_deployments=self.jobs.deployments
        )
        controllers = (
            fine_tune_job.build_controller(api, [self.jobs], recorder, lambda: SETTINGS),
            model_version.build_controller(api, [self.jobs.versions], recorder),
            model_deployment.build_controller(api, [self.servings], recorder, "serving:test"),
        )
        self.job, self.version, self.deployment = (one._reconcile for one in controllers)
        self.expectations = Expectations()
        self.carrier = PlanCarrier(api, self.expectations, recorder)
        self._all = (self.expectations, *(one._expectations for one in controllers))

    def awaited(self) -> set[str]:
        """Kinds of the written objects that the caches are to show first."""
        return {kind for one in self._all if one for kind, _, _ in one._pending.get(KEY, ())}


@pytest.fixture
def reconcilers(cluster: Cluster) -> Reconcilers:
    return Reconcilers(cluster.api)


def show(cache: Informer, item: Resource) -> None:
    cache._take({"type": "ADDED", "object": item})


async def write(api: KubeApi, kind: Kind) -> None:
    """Somebody else does, without a change of the spec."""
    await api.patch(kind, "tickets", {"metadata": {"labels": {"team": "support"}}}, NAMESPACE)


async def a_job(cluster: Cluster, all_: Reconcilers) -> tuple[Kind, Callable[..., Awaitable[Any]]]:
    show(all_.jobs.fine_tune_jobs, await ClusterUser(cluster.api).apply())
    return FINE_TUNE_JOBS, all_.job


async def a_job_without_peers(cluster: Cluster, all_: Reconcilers) -> tuple[Kind, Callable[..., Awaitable[Any]]]:
    show(all_.jobs.fine_tune_jobs, await ClusterUser(cluster.api).apply(distributed={"nodes": 1}))
    return FINE_TUNE_JOBS, all_.job


async def a_version(cluster: Cluster, all_: Reconcilers) -> tuple[Kind, Callable[..., Awaitable[Any]]]:
    show(all_.jobs.versions, await ServingUser(cluster.api).publish("tickets"))
    return MODEL_VERSIONS, all_.version


async def a_deployment(cluster: Cluster, all_: Reconcilers) -> tuple[Kind, Callable[..., Awaitable[Any]]]:
    version = await ServingUser(cluster.api).publish("v1")
    show(all_.jobs.versions, version | {"status": {"approved": True}})
    await ServingUser(cluster.api).deploy()
    show(all_.jobs.deployments, await cluster.api.get(MODEL_DEPLOYMENTS, "tickets", NAMESPACE))
    return MODEL_DEPLOYMENTS, all_.deployment


EACH = pytest.mark.parametrize("given", [a_job, a_job_without_peers, a_version, a_deployment])
WRITTEN = {
    a_job: {"FineTuneJob", "ConfigMap", "Service", "Job", "NetworkPolicy", "ServiceAccount"},
    a_job_without_peers: {"FineTuneJob", "ConfigMap", "Job", "NetworkPolicy", "ServiceAccount"},
    a_version: {"ModelVersion"},
    a_deployment: {"ModelDeployment", "Deployment", "Service"},
}


@EACH
async def test_a_status_is_written_by_compare_and_swap_and_first(
    cluster: Cluster, reconcilers: Reconcilers, given: Any
) -> None:
    kind, reconcile = await given(cluster, reconcilers)
    await write(cluster.api, kind)
    with pytest.raises(ApiError) as refused:
        await reconcile(KEY)
    assert refused.value.conflict
    assert not (await cluster.api.get(kind, "tickets", NAMESPACE)).get("status")
    for child in (JOBS, CONFIG_MAPS, DEPLOYMENTS):
        items = (await cluster.api.list(child, NAMESPACE))["items"]
        assert [item["metadata"]["name"] for item in items if item["metadata"].get("ownerReferences")] == []


@EACH
async def test_every_write_is_awaited_in_the_caches(cluster: Cluster, reconcilers: Reconcilers, given: Any) -> None:
    _, reconcile = await given(cluster, reconcilers)
    await reconcile(KEY)
    assert reconcilers.awaited() == WRITTEN[given]


async def test_what_is_being_deleted_is_awaited_too(cluster: Cluster, reconcilers: Reconcilers) -> None:
    job = await ClusterUser(cluster.api).apply()
    metadata = {"name": "held", "namespace": NAMESPACE, "finalizers": ["example.com/hold"]}
    held = await cluster.api.create(CONFIG_MAPS, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})
    going = Delete("ConfigMap", NAMESPACE, "held", held["metadata"]["uid"])
    await reconcilers.carrier.carry_out(KEY, job, Plan(own_status(job), (going,)))
    assert reconcilers.awaited() == {"ConfigMap"}


async def test_what_was_made_anew_under_a_name_is_not_deleted(cluster: Cluster, reconcilers: Reconcilers) -> None:
    job = await ClusterUser(cluster.api).apply()
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "made-anew", "namespace": NAMESPACE}}
    await cluster.api.create(CONFIG_MAPS, body)
    going = Delete("ConfigMap", NAMESPACE, "made-anew", "the-one-before")
    await reconcilers.carrier.carry_out(KEY, job, Plan(own_status(job), (going,)))
    assert not (await cluster.api.get(CONFIG_MAPS, "made-anew", NAMESPACE))["metadata"].get("deletionTimestamp")


async def test_a_gang_is_not_made_again_for_a_job_that_has_moved_on(cluster: Cluster, reconcilers: Reconcilers) -> None:
    """The status is as it should be, so that no compare-and-swap tells: the live object is looked at."""
    await a_job(cluster, reconcilers)
    await reconcilers.job(KEY)
    announced = await cluster.api.get(FINE_TUNE_JOBS, "tickets", NAMESPACE)
    show(reconcilers.jobs.fine_tune_jobs, announced)
    await cluster.api.delete(JOBS, "tickets-1", NAMESPACE)
    over = {"status": {"phase": "Failed", "conditions": [failed(announced)]}}
    await cluster.api.patch(FINE_TUNE_JOBS, "tickets", over, NAMESPACE, subresource="status")
    assert (await reconcilers.job(KEY)).requeue_after
    assert (await cluster.api.list(JOBS, NAMESPACE))["items"] == []


def failed(job: Resource) -> Resource:
    return job["status"]["conditions"][0] | {"type": "Failed", "status": "True"}


async def test_a_report_is_not_written_over_a_newer_state_and_comes_later(
    cluster: Cluster, reconcilers: Reconcilers
) -> None:
    await a_job(cluster, reconcilers)
    await reconcilers.job(KEY)
    job = await cluster.api.get(FINE_TUNE_JOBS, "tickets", NAMESPACE)
    show(reconcilers.jobs.fine_tune_jobs, job)
    await write(cluster.api, FINE_TUNE_JOBS)
    writer = ProgressWriter(cluster.api, [reconcilers.jobs])
    writer.offer(*KEY, job["metadata"]["uid"], ProgressReport(attempt=1, step=1, total_steps=2))
    await writer.flush()
    job = await cluster.api.get(FINE_TUNE_JOBS, "tickets", NAMESPACE)
    assert "progress" not in job["status"]
    show(reconcilers.jobs.fine_tune_jobs, job)
    await writer.flush()
    job = await cluster.api.get(FINE_TUNE_JOBS, "tickets", NAMESPACE)
    assert job["status"]["progress"]["step"] == 1
    assert PROGRESS_FIELD_MANAGER in {one["manager"] for one in job["metadata"]["managedFields"]}


async def test_a_job_for_which_no_step_can_be_found_says_so_and_is_tried_again(
    cluster: Cluster, reconcilers: Reconcilers, monkeypatch: pytest.MonkeyPatch
) -> None:
    await a_job(cluster, reconcilers)
    monkeypatch.setattr(fine_tune_job, "plan_job", lambda world: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        await reconcilers.job(KEY)
    conditions = (await cluster.api.get(FINE_TUNE_JOBS, "tickets", NAMESPACE))["status"]["conditions"]
    assert ("Planned", "False") in {(one["type"], one["status"]) for one in conditions}


@pytest.mark.parametrize("whose", ["another's", "its own, on its way out"])
async def test_a_name_that_is_taken_is_told_of_and_tried_again(
    cluster: Cluster, reconcilers: Reconcilers, whose: str
) -> None:
    await a_job(cluster, reconcilers)
    metadata: Resource = {"name": "tickets-1", "namespace": NAMESPACE, "finalizers": ["example.com/hold"]}
    if whose != "another's":
        job = await cluster.api.get(FINE_TUNE_JOBS, "tickets", NAMESPACE)
        metadata["ownerReferences"] = [owner_reference("tickets", job["metadata"]["uid"])]
    await cluster.api.create(CONFIG_MAPS, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})
    if whose != "another's":
        await cluster.api.delete(CONFIG_MAPS, "tickets-1", NAMESPACE)
    with pytest.raises(ApiError) as refused:
        await reconcilers.job(KEY)
    assert refused.value.already_exists
    conditions = (await cluster.api.get(FINE_TUNE_JOBS, "tickets", NAMESPACE))["status"]["conditions"]
    assert "CreateFailed" in {one["reason"] for one in conditions if one["type"] == "Running"}
    assert (await cluster.api.list(JOBS, NAMESPACE))["items"] == []


async def test_what_a_step_tells_is_told_also_when_its_writes_fail(cluster: Cluster, reconcilers: Reconcilers) -> None:
    job = await ClusterUser(cluster.api).apply()
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "Not A Name", "namespace": NAMESPACE}}
    plan = Plan(own_status(job), (Create(body),), (Event(Reason.SUSPENDED, "no pods run"),))
    with pytest.raises(CannotCreate):
        await reconcilers.carrier.carry_out(KEY, job, plan)
    assert reconcilers.recorder.waiting == 1


async def test_children_follow_no_spec_that_has_been_edited_since(cluster: Cluster, reconcilers: Reconcilers) -> None:
    """Likewise."""
    _, reconcile = await a_deployment(cluster, reconcilers)
    await reconcile(KEY)
    show(reconcilers.jobs.deployments, await cluster.api.get(MODEL_DEPLOYMENTS, "tickets", NAMESPACE))
    show(reconcilers.servings.services, await cluster.api.get(SERVICES, "tickets", NAMESPACE))
    await ServingUser(cluster.api).edit(replicas=3)
    await cluster.api.delete(DEPLOYMENTS, "tickets", NAMESPACE)
    assert (await reconcile(KEY)).requeue_after
    assert (await cluster.api.list(DEPLOYMENTS, NAMESPACE))["items"] == []
