"""The operator put together: caches, controllers, progress receiver, metrics, lease."""

import socket
import ssl
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from finetune_operator.controllers import model_deployment, model_version
from finetune_operator.controllers.fine_tune_job import build_controller
from finetune_operator.controllers.job_caches import JobCaches
from finetune_operator.controllers.serving_caches import ServingCaches
from finetune_operator.kinds import CLUSTER_TRAINING_RUNTIMES
from finetune_operator.kube.client import HttpKubeApi, KubeApi
from finetune_operator.kube.controller import Controller
from finetune_operator.kube.events import EventRecorder
from finetune_operator.kube.informer import Informer
from finetune_operator.kube.leader_election import LeaseElector
from finetune_operator.kube.metrics import REGISTRY
from finetune_operator.kube.runtime import Runtime
from finetune_operator.kube.servers import Server
from finetune_operator.plan.settings import Settings
from finetune_operator.web.metrics import JobMetrics
from finetune_operator.web.progress import ProgressReceiver
from finetune_operator.web.progress_token import TokenReviewer
from finetune_operator.web.progress_writer import ProgressWriter

COMPONENT = "finetune-operator"
INFORMERS_PER_NAMESPACE = 15


@dataclass(frozen=True)
class OperatorOptions:
    """What `finetune-operator run` is told."""

    kubeconfig: str | None = None
    """None: the pod's service account."""
    namespaces: tuple[str, ...] = ()
    """Empty: all of them."""
    leader_elect: bool = True
    lease_namespace: str = "finetune-operator-system"
    lease_name: str = "finetune-operator"
    trainer_image: str = "ghcr.io/finetune-operator/trainer:latest"
    serving_image: str = "ghcr.io/finetune-operator/serving:latest"
    progress_url: str | None = None
    """Base URL of the receiver as training pods reach it; None: they report nothing."""
    progress_host: str | None = None
    """Address to listen on; None: every one."""
    progress_port: int = 9443
    progress_cert: Path | None = None
    progress_key: Path | None = None
    progress_ca: Path | None = None
    """Authority that the pods should trust for the receiver's certificate."""
    probe_port: int | None = 8081
    """Health and metrics; None: neither."""
    probe_host: str | None = None
    workers: int = 16


def tls_context(options: OperatorOptions) -> ssl.SSLContext | None:
    """The receiver's certificate; None: plain HTTP, for a mesh or one machine."""
    if options.progress_cert is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(options.progress_cert, options.progress_key)
    return context


def settings_of(options: OperatorOptions) -> Settings:
    """What the plans need of the options."""
    return Settings(
        trainer_image=options.trainer_image,
        progress_url=options.progress_url,
        progress_ca=options.progress_ca.read_text() if options.progress_ca else None,
    )


def build_caches(api: KubeApi, namespaces: Sequence[str]) -> list[JobCaches]:
    """One set for the whole cluster, or one a namespace; cluster-wide kinds are shared."""
    cluster_runtimes = Informer(api, CLUSTER_TRAINING_RUNTIMES)
    return [JobCaches.build(api, namespace, cluster_runtimes) for namespace in namespaces or (None,)]


def build_runtime(api: KubeApi, options: OperatorOptions) -> Runtime:
    """Everything wired, nothing started."""
    caches = build_caches(api, options.namespaces)
    recorder = EventRecorder(api, COMPONENT)
    elector = _elector(api, options)
    writer = ProgressWriter(api, caches)
    JobMetrics([cache.fine_tune_jobs for cache in caches], REGISTRY, lambda: elector is None or elector.leading)
    return Runtime(
        controllers=_controllers(api, caches, recorder, options),
        elector=elector,
        recorder=recorder,
        servers=_servers(api, caches, writer, options),
        probe_port=options.probe_port,
        probe_host=options.probe_host,
        background=[writer.run],
    )


def _controllers(
    api: KubeApi, caches: list[JobCaches], recorder: EventRecorder, options: OperatorOptions
) -> list[Controller]:
    serving = [
        ServingCaches.build(
            api, cache.deployments.namespace, model_deployments=cache.deployments, versions=cache.versions
        )
        for cache in caches
    ]
    return [
        build_controller(api, caches, recorder, settings_of(options), workers=options.workers),
        model_version.build_controller(api, [cache.versions for cache in caches], recorder),
        model_deployment.build_controller(api, serving, recorder, options.serving_image),
    ]


def _elector(api: KubeApi, options: OperatorOptions) -> LeaseElector | None:
    if not options.leader_elect:
        return None
    identity = f"{socket.gethostname()}_{uuid.uuid4()}"
    return LeaseElector(api, options.lease_namespace, options.lease_name, identity)


def _servers(api: KubeApi, caches: list[JobCaches], writer: ProgressWriter, options: OperatorOptions) -> list[Server]:
    """The receiver runs on every replica: the pods' Service picks any of them."""
    if options.progress_url is None:
        return []
    receiver = ProgressReceiver(caches, TokenReviewer(api), writer)
    return [Server(receiver.app(), options.progress_port, options.progress_host, tls_context(options))]


async def run_operator(options: OperatorOptions) -> None:
    """Until SIGTERM or SIGINT. Raises what ended it otherwise, such as a lost lease."""
    watches = INFORMERS_PER_NAMESPACE * max(len(options.namespaces), 1)
    async with await HttpKubeApi.connect(options.kubeconfig, workers=2 * options.workers, watches=watches) as api:
        await build_runtime(api, options).run()
