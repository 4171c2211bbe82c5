"""The informers that the FineTuneJob controller reads, and their indices."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from finetune_api.names import LABEL_JOB, LABEL_MANAGED_BY, MANAGER, TRAINER_SERVICE_ACCOUNT
from finetune_operator.controllers import job_indices as index
from finetune_operator.controllers.api_groups import ApiGroups
from finetune_operator.controllers.claim_names import ClaimNames
from finetune_operator.controllers.kept_snapshots import KeptSnapshots
from finetune_operator.controllers.model_caches import PAGE, model_deployment_cache, model_version_cache
from finetune_operator.controllers.projections import (
    project_claim,
    project_config_map,
    project_fine_tune_job,
    project_identity,
    project_job,
    project_network_policy,
    project_pod,
    project_quota,
)
from finetune_operator.kinds import (
    CLUSTER_TRAINING_RUNTIMES,
    FINE_TUNE_JOBS,
    TRAINING_RUNTIMES,
)
from finetune_operator.kube.client import KubeApi
from finetune_operator.kube.controller import Key, owner_keys
from finetune_operator.kube.informer import Informer
from finetune_operator.kube.resources import (
    CONFIG_MAPS,
    JOBS,
    NETWORK_POLICIES,
    PERSISTENT_VOLUME_CLAIMS,
    PODS,
    RESOURCE_QUOTAS,
    SERVICE_ACCOUNTS,
    SERVICES,
)
from finetune_operator.plan.attempt import Snapshot
from finetune_operator.plan.names import ANNOTATION_JOB, preflight_name
from finetune_operator.plan.observation import NO_ATTEMPT, observe_attempt, observe_attempts
from finetune_operator.plan.places import named_versions
from finetune_operator.plan.references import Surroundings
from finetune_operator.plan.settings import Settings
from finetune_operator.plan.world import World

Resource = dict[str, Any]
MOST_RIVALS = 4
"""More than a warning names."""


@dataclass
class JobCaches:
    """Of one namespace, or of all."""

    fine_tune_jobs: Informer
    runtimes: Informer
    cluster_runtimes: Informer
    jobs: Informer
    pods: Informer
    services: Informer
    config_maps: Informer
    versions: Informer
    deployments: Informer
    claims: Informer
    quotas: Informer
    accounts: Informer
    policies: Informer
    api_groups: ApiGroups
    snapshots: KeptSnapshots

    @classmethod
    def build(
        cls,
        api: KubeApi,
        namespace: str | None,
        cluster_runtimes: Informer | None = None,
        api_groups: ApiGroups | None = None,
    ) -> "JobCaches":
        """`cluster_runtimes` and `api_groups`, which have no namespace, can be shared."""

        paging = asyncio.Lock()

        def informer(kind: Any, **options: Any) -> Informer:
            return Informer(api, kind, namespace=namespace, packed=True, page_size=PAGE, paging=paging, **options)

        owned = {"label_selector": LABEL_JOB, "indexers": {"owner": index.owner_uids}}
        fine_tune_jobs = informer(
            FINE_TUNE_JOBS,
            transform=project_fine_tune_job,
            indexers={
                "phase": index.phase_of,
                "runtime": index.runtime,
                "source": index.versions,
                "deployment": index.awaited_deployment,
                "publishing": index.publishing,
                "claim": index.awaited_claims,
                "unfinished": index.unfinished,
            },
        )
        config_maps = informer(CONFIG_MAPS, transform=project_config_map, **owned)
        return cls(
            fine_tune_jobs=fine_tune_jobs,
            runtimes=informer(TRAINING_RUNTIMES),
            cluster_runtimes=cluster_runtimes or Informer(api, CLUSTER_TRAINING_RUNTIMES),
            jobs=informer(JOBS, transform=project_job, **owned),
            pods=informer(PODS, label_selector=LABEL_JOB, transform=project_pod, indexers={"job": index.pod_job}),
            services=informer(SERVICES, transform=project_identity, **owned),
            config_maps=config_maps,
            snapshots=KeptSnapshots(fine_tune_jobs, config_maps),
            versions=model_version_cache(api, namespace, paging),
            deployments=model_deployment_cache(api, namespace, paging),
            accounts=informer(
                SERVICE_ACCOUNTS,
                field_selector=f"metadata.name={TRAINER_SERVICE_ACCOUNT}",
                transform=project_identity,
            ),
            policies=informer(
                NETWORK_POLICIES,
                label_selector=f"{LABEL_MANAGED_BY}={MANAGER}",
                transform=project_network_policy,
                indexers={"owner": index.owner_uids, "shared": index.shared},
            ),
            api_groups=api_groups or ApiGroups(api),
            quotas=informer(RESOURCE_QUOTAS, transform=project_quota, indexers={"namespace": index.namespace}),
            claims=informer(
                PERSISTENT_VOLUME_CLAIMS,
                transform=project_claim,
            ),
        )

    def all(self) -> list[Informer]:
        """Every informer."""
        return [
            self.fine_tune_jobs,
            self.runtimes,
            self.cluster_runtimes,
            self.jobs,
            self.pods,
            self.services,
            self.config_maps,
            self.versions,
            self.deployments,
            self.claims,
            self.quotas,
            self.accounts,
            self.policies,
        ]

    def world(self, job: Resource, settings: Settings, now: datetime, live: index.Gang | None = None) -> World:
        """Everything that the next step of this job depends on, from memory, but for what was read just now."""
        namespace, name, uid = (job["metadata"][field] for field in ("namespace", "name", "uid"))
        gang = live or self._gang(namespace, name, uid)
        config_maps = gang.config_maps
        snapshot = self._snapshot(job, config_maps) or index.snapshot_in(job, gang.told)
        # A job that has started goes by its snapshot: claims and other jobs need not be gone through for it again.
        around = self.surroundings(job) if snapshot is None else self._still_around(job)
        serving = around.deployment or self._serving(job)
        stable = ((serving or {}).get("status") or {}).get("stable")
        owned = gang.jobs
        looker = preflight_name(name)
        looking = [one for one in owned if one["metadata"]["name"] == looker]
        jobs = [one for one in owned if index.is_attempt(one, one["metadata"]["name"], name)]
        # By the Job that controls them: labels alone anyone may set.
        made = gang.pods
        pods = [pod for pod in made if index.is_attempt(pod, index.job_of(pod), name)]
        return World(
            job=job,
            now=now,
            settings=settings,
            attempts=observe_attempts(jobs, pods),
            room=observe_attempt(NO_ATTEMPT, jobs, pods),
            preflight=observe_attempt(NO_ATTEMPT, looking, [pod for pod in made if index.job_of(pod) == looker]),
            bound_claims=ClaimNames(self.claims, namespace, bound=True),
            parts=(*self.services.by_index("owner", uid), *config_maps),
            snapshot=snapshot,
            snapshot_lost=self.snapshots.is_lost(job),
            around=around,
            has_account=self.accounts.get(namespace, TRAINER_SERVICE_ACCOUNT) is not None,
            policies=self._policies(namespace, uid),
            versions=tuple(self.versions.by_index("job", uid)),
            serving=serving,
            deployed_version=self.versions.get(namespace, stable) if stable else None,
        )

    def _gang(self, namespace: str, name: str, uid: str) -> index.Gang:
        return index.Gang(
            self.jobs.by_index("owner", uid),
            self.pods.by_index("job", f"{namespace}/{name}"),
            self.config_maps.by_index("owner", uid),
        )

    def surroundings(self, job: Resource) -> Surroundings:
        """What the references of a job lead to."""
        namespace, model = job["metadata"]["namespace"], next(iter(index.publishing(job)), None)
        return Surroundings(
            runtime=self._runtime(job),
            source_versions=self._named_versions(job),
            deployment=self._deployment(job),
            claims=ClaimNames(self.claims, namespace),
            rivals=self._rivals(job, model),
            published=self._published(model),
            quotas=tuple(self.quotas.by_index("namespace", namespace)),
            api_groups=self.api_groups.names,
        )

    def _still_around(self, job: Resource) -> Surroundings:
        return Surroundings(deployment=self._deployment(job), api_groups=self.api_groups.names)

    def snapshot(self, job: Resource) -> Snapshot | None:
        """What a job started with; None before its start."""
        return self._snapshot(job, self.config_maps.by_index("owner", job["metadata"]["uid"]))

    def _snapshot(self, job: Resource, config_maps: list[Resource]) -> Snapshot | None:
        return index.snapshot(job, config_maps) or index.snapshot(job, self.snapshots.of(job))

    def _deployment(self, job: Resource) -> Resource | None:
        names = index.deployment(job)
        return self.deployments.get(*names[0].split("/")) if names else None

    def _rivals(self, job: Resource, model: str | None) -> tuple[str, ...]:
        others = self.fine_tune_jobs.some_names("publishing", model, MOST_RIVALS) if model else ()
        return tuple(name for _, name in others if name != job["metadata"].get("name"))

    def _published(self, model: str | None) -> Resource | None:
        names = self.versions.some_names("model", model, 1) if model else ()
        return self.versions.get(*names[0]) if names else None

    def _policies(self, namespace: str, uid: str) -> dict[str, Resource]:
        found = (*self.policies.by_index("owner", uid), *self.policies.by_index("shared", namespace))
        return {one["metadata"]["name"]: one for one in found}

    def _runtime(self, job: Resource) -> Resource | None:
        reference = job["spec"].get("runtimeRef")
        if not isinstance(reference, dict) or "name" not in reference:
            return None
        if reference.get("kind") == "TrainingRuntime":
            return self.runtimes.get(job["metadata"]["namespace"], reference["name"])
        return self.cluster_runtimes.get(None, reference["name"])

    def _named_versions(self, job: Resource) -> dict[str, Resource]:
        namespace = job["metadata"]["namespace"]
        found = {name: self.versions.get(namespace, name) for name in named_versions(job["spec"])}
        return {name: version for name, version in found.items() if version is not None}

    def _serving(self, job: Resource) -> Resource | None:
        """The deployment that serves the model now, when `spec.deploy` names none that exists."""
        namespace, publish = job["metadata"]["namespace"], job["spec"].get("publish")
        if not publish:
            return None
        of_model = self.deployments.by_index("model", f"{namespace}/{publish['modelName']}")
        serving = [one for one in of_model if (one.get("status") or {}).get("stable")]
        return min(serving, key=lambda one: one["metadata"]["name"], default=None)

    # Which jobs an object's change concerns.

    def keys_of_pod(self, pod: Resource) -> Iterable[Key]:
        """By the annotation that the pod template carries."""
        name = pod["metadata"].get("annotations", {}).get(ANNOTATION_JOB)
        return [(pod["metadata"]["namespace"], name)] if name else []

    def keys_of_runtime(self, runtime: Resource) -> Iterable[Key]:
        """Jobs that have not started; the others hold a snapshot."""
        metadata = runtime["metadata"]
        value = f"{runtime['kind']}/{metadata.get('namespace') or ''}/{metadata['name']}"
        return self.fine_tune_jobs.names_by_index("runtime", value)

    def keys_of_version(self, version: Resource) -> Iterable[Key]:
        """The job that made it, and the ones that wait to start from it."""
        metadata = version["metadata"]
        made_by = (version["spec"].get("job") or {}).get("name")
        value = f"{metadata['namespace']}/{metadata['name']}"
        keys = self.fine_tune_jobs.names_by_index("source", value)
        return [*keys, (metadata["namespace"], made_by)] if made_by else keys

    def keys_of_deployment(self, deployment: Resource) -> Iterable[Key]:
        """Jobs that are about to deploy, and the ones that wait for the name."""
        metadata = deployment["metadata"]
        value = f"{metadata['namespace']}/{metadata['name']}"
        return self.fine_tune_jobs.names_by_index("deployment", value)

    def keys_of_policy(self, policy: Resource) -> Iterable[Key]:
        """The job that owns it, or all that may have pods under it."""
        if not index.shared(policy):
            return owner_keys("FineTuneJob")(policy)
        return self.fine_tune_jobs.names_by_index("unfinished", policy["metadata"]["namespace"])

    def keys_of_claim(self, claim: Resource) -> Iterable[Key]:
        """Jobs that wait for something and name it, or have a runtime, which may."""
        namespace, name = claim["metadata"]["namespace"], claim["metadata"]["name"]
        named, perhaps = (self.fine_tune_jobs.names_by_index("claim", f"{namespace}/{one}") for one in (name, ""))
        return (*named, *perhaps)


def cache_of(caches: Iterable["JobCaches"], namespace: str) -> "JobCaches | None":
    """The caches that cover a namespace."""
    scopes = {cache.fine_tune_jobs.namespace: cache for cache in caches}
    return scopes.get(namespace) or scopes.get(None)
