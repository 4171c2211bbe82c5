"""The operator put together: caches, controllers, progress receiver, metrics, lease."""

import os
import socket
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from finetune_operator.controllers import fine_tune_job, model_deployment, model_version
from finetune_operator.controllers.api_groups import ApiGroups
from finetune_operator.controllers.job_caches import JobCaches
from finetune_operator.controllers.serving_caches import ServingCaches
from finetune_operator.kinds import CLUSTER_TRAINING_RUNTIMES
from finetune_operator.kube.client import HttpKubeApi, KubeApi
from finetune_operator.kube.controller import Controller
from finetune_operator.kube.events import EventRecorder
from finetune_operator.kube.informer import Informer
from finetune_operator.kube.leader_election import LeaseElector, LeaseTiming
from finetune_operator.kube.metrics import REGISTRY
from finetune_operator.kube.probes import metrics_app
from finetune_operator.kube.runtime import Runtime
from finetune_operator.kube.servers import Server
from finetune_operator.plan.settings import Settings
from finetune_operator.web.admission import AdmissionWebhooks
from finetune_operator.web.certificate import ServerCertificate
from finetune_operator.web.metrics import JobMetrics
from finetune_operator.web.progress import ProgressReceiver
from finetune_operator.web.progress_token import TokenReviewer
from finetune_operator.web.progress_writer import ProgressWriter
from finetune_operator.web.webhook_trust import TrustOptions, WebhookTrust

COMPONENT = "finetune-operator"
LEASE = "finetune-operator"
INFORMERS = 20
"""Open watches a namespace, with some to spare."""
POD_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


@dataclass(frozen=True)
class Options:
    """What `finetune-operator run` is told."""

    kubeconfig: str | None = None
    """None: $KUBECONFIG, the pod's service account, or ~/.kube/config."""
    namespaces: tuple[str, ...] = ()
    """Empty: all of them."""
    leader_elect: bool = True
    leader_election_namespace: str = ""
    """Empty: the pod's own, else `default`."""
    leader_elect_lease_duration: float = LeaseTiming.lease_duration
    """Seconds, see LeaseTiming."""
    leader_elect_renew_deadline: float = LeaseTiming.renew_deadline
    leader_elect_retry_period: float = LeaseTiming.retry_period
    bind_address: str = "0.0.0.0"
    metrics_port: int = 8080
    probe_port: int = 8081
    progress_port: int = 8443
    progress_url: str = ""
    """Base URL of the receiver as training pods reach it. Empty: they report nothing."""
    progress_tls_cert: str | None = None
    """PEM file. None: plain HTTP, for a mesh that encrypts, or for one machine."""
    progress_tls_key: str | None = None
    progress_tls_ca: str | None = None
    """PEM file of the authority that the pods trust; default: the certificate file itself."""
    webhook_port: int = 0
    """0: no webhooks; the reconciler gives the same verdicts later."""
    webhook_tls_cert: str | None = None
    """PEM file, e.g. by cert-manager. None: the operator keeps a certificate of its own in `webhook_secret`."""
    webhook_tls_key: str | None = None
    webhook_secret: str = ""
    """NAMESPACE/NAME of a Secret that exists, for the operator's own certificate."""
    webhook_configuration: str = ""
    """Name of the WebhookConfigurations whose caBundle is kept up to date for it."""
    webhook_names: tuple[str, ...] = ()
    """DNS names and addresses by which the API server reaches the webhooks."""
    trainer_image: str = "ghcr.io/finetune-operator/trainer:0.1.0"
    serving_image: str = "ghcr.io/finetune-operator/serving:0.1.0"
    workers: int = 16


def build_runtime(api: HttpKubeApi, options: Options) -> Runtime:
    """Everything wired, nothing started."""
    jobs, servings = build_caches(api, options.namespaces)
    recorder = EventRecorder(api, COMPONENT)
    elector = _elector(api, options)
    writer = ProgressWriter(api, jobs)
    certificate = _certificate(options)
    JobMetrics(
        [cache.fine_tune_jobs for cache in jobs],
        REGISTRY,
        lambda: elector is None or elector.leading,
        pods_report=bool(options.progress_url),
    )
    runtime = Runtime(
        controllers=_controllers(api.fenced(elector.check) if elector else api, jobs, servings, recorder, options),
        elector=elector,
        recorder=recorder,
        servers=_receivers(api, jobs, writer, certificate, options),
        probe_port=options.probe_port,
        probe_host=options.bind_address,
        background=[writer.run, jobs[0].api_groups.run, *([certificate.run] if certificate else [])],
    )
    runtime.servers.append(Server(metrics_app(), options.metrics_port, options.bind_address))
    _add_webhooks(runtime, api, jobs, options)
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
) -> list[Controller]:
    versions = [cache.versions for cache in jobs]
    return [
        fine_tune_job.build_controller(api, jobs, recorder, _settings(options), workers=options.workers),
        model_version.build_controller(api, versions, recorder),
        model_deployment.build_controller(api, servings, recorder, options.serving_image),
    ]


def _settings(options: Options) -> Settings:
    authority = options.progress_tls_ca or options.progress_tls_cert
    return Settings(
        trainer_image=options.trainer_image,
        progress_url=options.progress_url or None,
        progress_port=options.progress_port,
        progress_ca=Path(authority).read_text() if authority else None,
    )


def _elector(api: KubeApi, options: Options) -> LeaseElector | None:
    if not options.leader_elect:
        return None
    return LeaseElector(
        api,
        _own_namespace(options),
        LEASE,
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
    certificate: ServerCertificate | None,
    options: Options,
) -> list[Server]:
    """On every replica: the Service that the pods post to picks any of them."""
    if not options.progress_url:
        return []
    app = ProgressReceiver(caches, TokenReviewer(api), writer).app()
    tls = certificate.context if certificate else None
    return [Server(app, options.progress_port, options.bind_address, tls)]


def _add_webhooks(runtime: Runtime, api: KubeApi, caches: list[JobCaches], options: Options) -> None:
    """On every replica, as the Service picks any of them."""
    if not options.webhook_port:
        return
    if options.webhook_tls_cert:
        files = ServerCertificate(options.webhook_tls_cert, options.webhook_tls_key)
        context, keep = files.context, files.run
    else:
        namespace, _, name = options.webhook_secret.partition("/")
        trust = WebhookTrust(api, TrustOptions(namespace, name, options.webhook_configuration, options.webhook_names))
        context, keep = trust.context, trust.run
        runtime.probes.add_ready_check("webhook-certificate", trust.problem)
    runtime.background.append(keep)
    app = AdmissionWebhooks(caches).app()
    runtime.servers.append(Server(app, options.webhook_port, options.bind_address, context))


def _certificate(options: Options) -> ServerCertificate | None:
    if options.progress_tls_cert is None:
        return None
    return ServerCertificate(options.progress_tls_cert, options.progress_tls_key)


async def run_operator(options: Options) -> int:
    """Until SIGTERM or SIGINT, then 0. Raises what ended it otherwise, such as a lost lease."""
    watches = INFORMERS * max(len(options.namespaces), 1)
    async with await HttpKubeApi.connect(options.kubeconfig, workers=2 * options.workers, watches=watches) as api:
        await build_runtime(api, options).run()
    return 0
