"""`finetune-operator run`: the control plane."""

import logging
import sys
import time
from typing import Any

import click

from finetune_operator.cli.mendable import PORT, told_in_one_line

DEFAULT_TRAINER_IMAGE = "ghcr.io/finetune-operator/trainer:0.1.0"
DEFAULT_SERVING_IMAGE = "ghcr.io/finetune-operator/serving:0.1.0"


def configure_logging(verbose: bool) -> None:
    """One line a record on standard error, times in UTC."""
    logging.Formatter.converter = time.gmtime
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.INFO,
        format="%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s %(message)s",
        datefmt="%Y-%m-%dT%H:%M:%S",
        stream=sys.stderr,
    )


@click.command()
@click.option("--kubeconfig", type=click.Path(), help="Default: $KUBECONFIG, else in-cluster, else ~/.kube/config.")
@click.option("--namespaces", default="", help="Comma-separated; default: all namespaces.")
@click.option("--leader-elect/--no-leader-elect", default=True, help="Only one replica writes at a time.")
@click.option("--leader-election-namespace", default="", help="Default: the pod's own namespace, else default.")
@click.option("--leader-election-name", default="finetune-operator", show_default=True, help="Of the Lease.")
@click.option("--leader-elect-lease-duration", default=12.0, show_default=True, help="Seconds until others take over.")
@click.option("--leader-elect-renew-deadline", default=8.0, show_default=True, help="Seconds until a cut leader ends.")
@click.option("--leader-elect-retry-period", default=2.0, show_default=True, help="Seconds between two renewals.")
@click.option("--bind-address", default="0.0.0.0", show_default=True)
@click.option("--metrics-port", type=PORT, default=8080, show_default=True)
@click.option("--probe-port", type=PORT, default=8081, show_default=True)
@click.option("--progress-port", type=PORT, default=8443, show_default=True)
@click.option("--progress-url", default="", help="Where training pods reach the progress receiver.")
@click.option(
    "--progress-tls/--no-progress-tls",
    default=True,
    help="Without: plain HTTP, for where something else encrypts what the pods send.",
)
@click.option("--progress-tls-cert", type=click.Path(exists=True, dir_okay=False), help="E.g. by cert-manager.")
@click.option("--progress-tls-key", type=click.Path(exists=True, dir_okay=False))
@click.option(
    "--progress-tls-ca",
    type=click.Path(exists=True, dir_okay=False),
    help="What training pods trust. Default: the certificate itself.",
)
@click.option("--webhook-port", type=PORT, default=0, help="Of the admission webhooks; default: none are served.")
@click.option("--webhook-tls-cert", type=click.Path(exists=True, dir_okay=False), help="E.g. by cert-manager.")
@click.option("--webhook-tls-key", type=click.Path(exists=True, dir_okay=False))
@click.option("--webhook-configuration", default="", help="WebhookConfigurations that shall trust our own certificate.")
@click.option("--tls-secret", default="", metavar="NAMESPACE/NAME", help="Keep a certificate of our own here.")
@click.option("--tls-names", default="", help="Comma-separated names and addresses in it.")
@click.option(
    "--look-up-secrets/--no-look-up-secrets",
    default=True,
    help="Jobs wait for Secrets that they name and that are not there; needs the right to get Secrets.",
)
@click.option(
    "--training-network",
    default="",
    metavar="JSON",
    help="Resolvers, storage and readers of metrics that NetworkPolicies of training pods name; docs/security.md.",
)
@click.option("--trainer-image", default=DEFAULT_TRAINER_IMAGE, show_default=True)
@click.option("--serving-image", default=DEFAULT_SERVING_IMAGE, show_default=True)
@click.option("--verbose", is_flag=True, help="Log at debug level.")
def run(verbose: bool, namespaces: str, tls_names: str, **options: Any) -> None:
    """Run the operator until it is told to stop (SIGTERM) or loses its lease (exit 1)."""
    from finetune_operator.cli.certificate_options import check_certificates
    from finetune_operator.kube import event_loop
    from finetune_operator.kube.credentials import KubeConfigError
    from finetune_operator.operator import run_operator
    from finetune_operator.options import Options

    configure_logging(verbose)
    _check_lease(options)
    chosen = Options(namespaces=listed(namespaces), tls_names=listed(tls_names), **options)
    check_certificates(chosen)
    _check_network(chosen.training_network)
    with told_in_one_line(KubeConfigError):
        code = event_loop.run(run_operator(chosen))
    sys.exit(code)


def _check_lease(options: dict[str, Any]) -> None:
    """Before anything starts: the three times depend on each other."""
    from finetune_operator.kube.leader_election import LeaseTiming

    try:
        LeaseTiming(*(options[f"leader_elect_{name}"] for name in ("lease_duration", "renew_deadline", "retry_period")))
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def _check_network(text: str) -> None:
    from pydantic import ValidationError

    from finetune_operator.plan.training_network import training_network

    try:
        training_network(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise click.UsageError(f"--training-network: {where or 'the JSON'}: {first['msg']}") from error


def listed(text: str) -> tuple[str, ...]:
    """The parts of a comma-separated option."""
    return tuple(part.strip() for part in text.split(",") if part.strip())
