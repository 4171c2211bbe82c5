"""The process: listen, load, serve, drain."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import Coroutine, Iterator
from typing import Any

import uvicorn
from fastapi import FastAPI

from finetune_api.exit_codes import ExitCode
from finetune_serving.app import create_app
from finetune_serving.compute import Threads
from finetune_serving.lifecycle import Lifecycle
from finetune_serving.metrics import Metrics
from finetune_serving.model_startup import run_model
from finetune_serving.settings import Settings
from finetune_serving.startup import StartupError, write_termination_message

log = logging.getLogger(__name__)


class DrainingServer(uvicorn.Server):
    """SIGTERM turns readiness off first, and closes the listener only after the drain delay.

    A second signal, and Ctrl-C, skip the delay. uvicorn's own handlers close at once and then end the process
    by the signal; a pod that drained well should exit with 0.
    """

    def __init__(self, config: uvicorn.Config, lifecycle: Lifecycle, drain_delay: float) -> None:
        super().__init__(config)
        self._lifecycle = lifecycle
        self._drain_delay = drain_delay

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self.drain, self._drain_delay)
        loop.add_signal_handler(signal.SIGINT, self.drain, 0.0)
        try:
            yield
        finally:
            loop.remove_signal_handler(signal.SIGTERM)
            loop.remove_signal_handler(signal.SIGINT)

    def drain(self, delay: float) -> None:
        """Not ready from now on; no new connections after `delay` seconds."""
        if self._lifecycle.draining or delay == 0:
            self.stop()
            return
        log.info("draining: still answering for %g s", delay)
        self._lifecycle.drain()
        asyncio.get_running_loop().call_later(delay, self.stop)

    def stop(self) -> None:
        self._lifecycle.drain()
        self.should_exit = True


def listen(host: str, port: int) -> socket.socket:
    """A bound socket. Raises StartupError naming the address."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise StartupError(f"cannot listen on {host}:{port}: {os.strerror(error.errno or 0)}") from error


async def serve(settings: Settings) -> int:
    """Run until a signal or a fatal error; returns the exit code."""
    lifecycle, metrics, threads = Lifecycle(), Metrics(), Threads()
    app = create_app(settings, lifecycle, metrics)
    try:
        listener = listen(settings.host, settings.port)
        log.info("listening on http://%s:%d", *listener.getsockname()[:2])
        server = DrainingServer(_uvicorn_config(app, settings), lifecycle, settings.shutdown.drain_delay)
        model = run_model(app, settings, threads, metrics, lifecycle.model_loaded)
        await _until_stopped(server, listener, model)
    except StartupError as error:
        log.error("%s", error)
        write_termination_message(str(error))
        return error.exit_code
    finally:
        threads.close()
    return ExitCode.DONE


async def _until_stopped(server: DrainingServer, listener: socket.socket, model: Coroutine[Any, Any, None]) -> None:
    """The server and the model live together: when one ends, so does the other."""
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    running = asyncio.create_task(model)
    await asyncio.wait({serving, running}, return_when=asyncio.FIRST_COMPLETED)
    server.stop()
    if running.done():
        server.force_exit = True
    await serving
    if not running.done():
        running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


def _uvicorn_config(app: FastAPI, settings: Settings) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        timeout_graceful_shutdown=max(1, round(settings.shutdown.grace_period)),
    )
