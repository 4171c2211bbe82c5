"""What `finetune-operator run` is told."""

from dataclasses import dataclass

from finetune_operator.kube.leader_election import LeaseTiming

LEASE = "finetune-operator"


@dataclass(frozen=True)
class Options:
    """One field for each option of the command."""

    kubeconfig: str | None = None
    """None: $KUBECONFIG, the pod's service account, or ~/.kube/config."""
    namespaces: tuple[str, ...] = ()
    """Empty: all of them."""
    leader_elect: bool = True
    leader_election_namespace: str = ""
    """Empty: the pod's own, else `default`."""
    leader_election_name: str = LEASE
    """Of the Lease; replicas of another installation in the same namespace need another one."""
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
    progress_tls: bool = True
    """False: plain HTTP, where something in front of the receiver encrypts, or a mesh around it."""
    progress_tls_cert: str | None = None
    """PEM file, e.g. by cert-manager. None: the operator keeps a certificate of its own in `tls_secret`."""
    progress_tls_key: str | None = None
    progress_tls_ca: str | None = None
    """PEM file of the authority that the pods trust; default: the certificate file itself."""
    webhook_port: int = 0
    """0: no webhooks; the reconciler gives the same verdicts later."""
    webhook_tls_cert: str | None = None
    """PEM file. None: as for progress."""
    webhook_tls_key: str | None = None
    webhook_configuration: str = ""
    """Name of the WebhookConfigurations whose caBundle is kept up to date for the operator's own certificate."""
    tls_secret: str = ""
    """NAMESPACE/NAME of a Secret that exists, for the operator's own certificate."""
    tls_names: tuple[str, ...] = ()
    """DNS names and addresses by which API server and training pods reach the operator."""
    look_up_secrets: bool = True
    """Before a job starts, see whether the Secrets that it names are there: their metadata, never their data."""
    training_network: str = ""
    """JSON of a `TrainingNetwork`; empty: its defaults."""
    trainer_image: str = "ghcr.io/finetune-operator/trainer:0.1.0"
    serving_image: str = "ghcr.io/finetune-operator/serving:0.1.0"
    workers: int = 16
