"""`finetune-operator local`: a one-machine Kubernetes with the operator in it."""

import asyncio
import contextlib
import ctypes
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import aiohttp
import click

from finetune_operator.cli.local_installation import CERTIFICATE, NAMESPACE, install
from finetune_operator.cli.local_webhooks import register_webhooks
from finetune_operator.cli.mendable import PORT, told_in_one_line
from finetune_operator.cli.ports import LOOPBACK, free_port
from finetune_operator.cli.run import configure_logging, listed

log = logging.getLogger("finetune_operator.local")
RESTART_SECONDS = 1.0
READY_SECONDS = 60.0


def parse_claims(values: tuple[str, ...]) -> dict[str, Path]:
    """`NAMESPACE/CLAIM=FOLDER` options as a mapping."""
    claims = {}
    for value in values:
        claim, separator, folder = value.partition("=")
        if not separator or claim.count("/") != 1:
            raise click.BadParameter(f"{value!r}: write NAMESPACE/CLAIM=FOLDER", param_hint="--claim")
        if not Path(folder).is_dir():
            raise click.BadParameter(f"{folder!r} is not a folder", param_hint="--claim")
        claims[claim] = Path(folder).resolve()
    return claims


@click.command()
@click.option("--port", type=PORT, default=0, help="Of the API server; default: a free one.")
@click.option("--kubeconfig", type=click.Path(path_type=Path), help="Where to write the kubeconfig.")
@click.option("--operator/--no-operator", "with_operator", default=True, help="Run the operator too.")
@click.option("--namespaces", default="", help="Comma-separated: let the operator work in these only.")
@click.option("--webhooks/--no-webhooks", default=True, help="Let the operator judge objects as they are applied.")
@click.option("--state", type=click.Path(path_type=Path, file_okay=False), help="Keep objects and volumes here.")
@click.option("--claim", "claims", multiple=True, metavar="NAMESPACE/CLAIM=FOLDER", help="A claim that is a folder.")
@click.option("--metrics-port", type=PORT, default=0, help="Of the operator's /metrics; default: a free one.")
@click.option("--verbose", is_flag=True)
def local(
    port: int,
    kubeconfig: Path | None,
    with_operator: bool,
    namespaces: str,
    webhooks: bool,
    state: Path | None,
    claims: tuple[str, ...],
    metrics_port: int,
    verbose: bool,
) -> None:
    """Run Kubernetes on this machine, pods as local processes, until interrupted.

    Prints one line, `ready URL`, when kubectl can be used; logs go to standard error.
    """
    from finetune_local.cluster import StateInUseError

    configure_logging(verbose)
    folders = parse_claims(claims)
    with contextlib.suppress(KeyboardInterrupt), told_in_one_line(StateInUseError):
        watched = listed(namespaces)
        asyncio.run(_serve(port, kubeconfig, with_operator, watched, webhooks, state, folders, metrics_port))


async def _serve(
    port: int,
    kubeconfig: Path | None,
    with_operator: bool,
    namespaces: tuple[str, ...],
    webhooks: bool,
    state: Path | None,
    claims: dict[str, Path],
    metrics_port: int,
) -> None:
    from finetune_local.cluster import Cluster

    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    async with Cluster(port, state, claims=claims) as cluster:
        account = await install(cluster, namespaces)
        if kubeconfig:
            cluster.server.write_kubeconfig(kubeconfig)
        log.info("export KUBECONFIG=%s", kubeconfig or cluster.kubeconfig)
        async with contextlib.AsyncExitStack() as stack:
            if with_operator:
                options = await register_webhooks(cluster.api, namespaces) if webhooks else []
                options += ["--namespaces", ",".join(namespaces)]
                await stack.enter_async_context(running_operator(account, metrics_port, options))
            click.echo(f"ready {cluster.url}")
            sys.stdout.flush()
            await stopping.wait()


@contextlib.asynccontextmanager
async def running_operator(kubeconfig: Path, metrics_port: int = 0, options: Sequence[str] = ()) -> AsyncIterator[None]:
    """The operator as a child process, started again when it dies; ready when the body runs."""
    probe_port, progress_port = free_port(), free_port()
    command = [
        sys.executable, "-m", "finetune_operator.cli", "run",
        "--kubeconfig", str(kubeconfig), "--no-leader-elect", "--bind-address", LOOPBACK,
        "--metrics-port", str(metrics_port or free_port()), "--probe-port", str(probe_port),
        "--progress-port", str(progress_port), "--progress-url", f"https://{LOOPBACK}:{progress_port}",
        "--tls-secret", f"{NAMESPACE}/{CERTIFICATE}", "--tls-names", LOOPBACK, *options,
    ]  # fmt: skip
    supervisor = asyncio.create_task(_supervise(command))
    try:
        await _until_ready(f"http://{LOOPBACK}:{probe_port}/readyz", supervisor)
        yield
    finally:
        supervisor.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await supervisor


async def _supervise(command: list[str]) -> None:
    """Runs `command` again and again, as a Deployment would; ends it gracefully when cancelled."""
    while True:
        process = await asyncio.create_subprocess_exec(*command, preexec_fn=_die_with_parent)
        try:
            code = await process.wait()
        except asyncio.CancelledError:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            await process.wait()
            raise
        log.warning("the operator exited with %d; starting it again", code)
        await asyncio.sleep(RESTART_SECONDS)


def _die_with_parent() -> None:
    """Linux: no operator outlives this process, even when it is killed with SIGKILL; prctl(2)."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)
        if os.getppid() == 1:
            os._exit(1)


async def _until_ready(url: str, supervisor: asyncio.Task[None]) -> None:
    async with asyncio.timeout(READY_SECONDS), aiohttp.ClientSession() as session:
        while not supervisor.done():
            with contextlib.suppress(aiohttp.ClientError):
                async with session.get(url) as response:
                    if response.status == 200:
                        return
            await asyncio.sleep(0.1)
    await supervisor
