"""The operator put together: caches, controllers, progress receiver, metrics, lease."""

import os
import socket
import uuid
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from finetune_operator.controllers import fine_tune_job, model_deployment, model_version
from finetune_operator.controllers.api_groups import ApiGroups
from finetune_operator.controllers.job_caches import JobCaches
from finetune_operator.controllers.look_ups import LookUps
from finetune_operator.controllers.serving_caches import ServingCaches
from finetune_operator.kinds import CLUSTER_TRAINING_RUNTIMES
from finetune_operator.kube.client import HttpKubeApi, KubeApi
from finetune_operator.kube.controller import Controller
from finetune_operator.kube.events import EventRecorder
from finetune_operator.kube.informer import Informer
from finetune_operator.kube.leader_election import LeaseElector
from finetune_operator.kube.metrics import REGISTRY
from finetune_operator.kube.probes import metrics_app
from finetune_operator.kube.runtime import Runtime
from finetune_operator.kube.servers import Server
from finetune_operator.options import Options
from finetune_operator.plan.settings import Settings
from finetune_operator.web.admission import AdmissionWebhooks
from finetune_operator.web.certificates import Certificates
from finetune_operator.web.metrics import JobMetrics
from finetune_operator.web.progress import ProgressReceiver
from finetune_operator.web.progress_token import TokenReviewer
from finetune_operator.web.progress_writer import ProgressWriter

COMPONENT = "finetune-operator"
INFORMERS = 20
"""Open watches a namespace, with some to spare."""
POD_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


def build_runtime(api: HttpKubeApi, options: Options) -> Runtime:
    """Everything wired, nothing started."""
    jobs, servings = build_caches(api, options.namespaces)
    recorder = EventRecorder(api, COMPONENT)
    elector = _elector(api, options)
    writer = ProgressWriter(api, jobs)
    certificates = Certificates.of(api, options)
    look_ups = LookUps(api, secrets=options.look_up_secrets)
    JobMetrics(
        [cache.fine_tune_jobs for cache in jobs],
        REGISTRY,
        lambda: elector is None or elector.leading,
        pods_report=bool(options.progress_url),
    )
    writing = api.fenced(elector.check) if elector else api
    runtime = Runtime(
        controllers=_controllers(writing, jobs, servings, recorder, options, certificates, look_ups),
        elector=elector,
        recorder=recorder,
        servers=[
            *_receivers(api, jobs, writer, certificates, options),
            *_webhooks(jobs, look_ups, certificates, options),
            Server(metrics_app(), options.metrics_port, options.bind_address),
        ],
        probe_port=options.probe_port,
        probe_host=options.bind_address,
        background=[writer.run, jobs[0].api_groups.run, *certificates.background()],
    )
    for name, check in certificates.ready_checks().items():
        runtime.probes.add_ready_check(name, check)
    return runtime


def build_caches(api: KubeApi, namespaces: Sequence[str]) -> tuple[list[JobCaches], list[ServingCaches]]:
    """For the whole cluster, or for each namespace; what two controllers read is watched once."""
    cluster_runtimes = Informer(api, CLUSTER_TRAINING_RUNTIMES)
    groups = ApiGroups(api)
    jobs = [JobCaches.build(api, namespace, cluster_runtimes, groups) for namespace in namespaces or (None,)]
    servings = [
        ServingCaches.build(
            api,
            cache.fine_tune_jobs.namespace,
            model_deployments=cache.deployments,
            versions=cache.versions,
        )
        for cache in jobs
    ]
    return jobs, servings


def _controllers(
    api: KubeApi,
    jobs: list[JobCaches],
    servings: list[ServingCaches],
    recorder: EventRecorder,
    options: Options,
    certificates: Certificates,
    look_ups: LookUps,
) -> list[Controller]:
    versions = [cache.versions for cache in jobs]
    settings = Settings(
        trainer_image=options.trainer_image,
        progress_url=options.progress_url or None,
        progress_port=options.progress_port,
        training_network=options.training_network,
    )
    return [
        fine_tune_job.build_controller(
            api,
            jobs,
            recorder,
            # An authority may be followed by another while we run.
            lambda: replace(settings, progress_ca=certificates.progress_authority()),
            workers=options.workers,
            prepare=[certificates.loaded],
            look_ups=look_ups,
        ),
        model_version.build_controller(api, versions, recorder),
        model_deployment.build_controller(api, servings, recorder, options.serving_image, look_ups=look_ups),
    ]


def _elector(api: KubeApi, options: Options) -> LeaseElector | None:
    if not options.leader_elect:
        return None
    return LeaseElector(
        api,
        _own_namespace(options),
        options.leader_election_name,
        f"{socket.gethostname()}_{uuid.uuid4()}",
        options.leader_elect_lease_duration,
        options.leader_elect_renew_deadline,
        options.leader_elect_retry_period,
    )


def _own_namespace(options: Options) -> str:
    if options.leader_election_namespace:
        return options.leader_election_namespace
    if POD_NAMESPACE_FILE.exists():
        return POD_NAMESPACE_FILE.read_text().strip()
    return os.environ.get("POD_NAMESPACE", "default")


def _receivers(
    api: KubeApi,
    caches: list[JobCaches],
    writer: ProgressWriter,
    certificates: Certificates,
    options: Options,
) -> list[Server]:
    """On every replica: the Service that the pods post to picks any of them."""
    if not options.progress_url:
        return []
    app = ProgressReceiver(caches, TokenReviewer(api), writer).app()
    tls = certificates.progress.context if certificates.progress else None
    return [Server(app, options.progress_port, options.bind_address, tls)]


def _webhooks(caches: list[JobCaches], look_ups: LookUps, certificates: Certificates, options: Options) -> list[Server]:
    """On every replica, as the Service picks any of them."""
    if certificates.webhooks is None:
        return []
    app = AdmissionWebhooks(caches, look_ups).app()
    return [Server(app, options.webhook_port, options.bind_address, certificates.webhooks.context)]


async def run_operator(options: Options) -> int:
    """Until SIGTERM or SIGINT, then 0. Raises what ended it otherwise, such as a lost lease."""
    watches = INFORMERS * max(len(options.namespaces), 1)
    async with await HttpKubeApi.connect(options.kubeconfig, workers=2 * options.workers, watches=watches) as api:
        await build_runtime(api, options).run()
    return 0
