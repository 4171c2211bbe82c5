"""Options that say where certificates come from: what fits together, before anything starts."""

from urllib.parse import urlsplit

import click

from finetune_operator.options import Options


def check_certificates(options: Options) -> None:
    """Each HTTPS server needs a certificate, and nobody speaks plain HTTP by an oversight.

    Raises:
        click.UsageError: Something is missing, or contradicts.
    """
    if options.progress_url:
        _check_progress(options)
    if options.webhook_port:
        _check_webhooks(options)


def _check_progress(options: Options) -> None:
    scheme, files = urlsplit(options.progress_url).scheme, options.progress_tls_cert or options.progress_tls_key
    if not options.progress_tls:
        if files or options.progress_tls_ca:
            raise click.UsageError("--no-progress-tls and --progress-tls-cert, -key or -ca contradict each other")
        return
    if scheme != "https":
        raise click.UsageError(
            f"--progress-url {options.progress_url!r} is no https:// address: training pods would send their tokens in "
            "the clear; write https://, or say --no-progress-tls where something else encrypts them"
        )
    if files and not (options.progress_tls_cert and options.progress_tls_key):
        raise click.UsageError("--progress-tls-cert and --progress-tls-key go together")
    if not files:
        _check_own(options, "--progress-url needs --progress-tls-cert and --progress-tls-key")


def _check_webhooks(options: Options) -> None:
    if options.webhook_tls_cert and options.webhook_tls_key:
        return
    message = "--webhook-port needs --webhook-tls-cert and --webhook-tls-key"
    _check_own(options, message)
    if not options.webhook_configuration:
        raise click.UsageError(f"{message}, or with --tls-secret also --webhook-configuration")


def _check_own(options: Options, message: str) -> None:
    if options.tls_secret.count("/") != 1 or not options.tls_names:
        raise click.UsageError(f"{message}, or --tls-secret NAMESPACE/NAME and --tls-names")
