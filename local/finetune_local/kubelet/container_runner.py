"""Runs one container of a pod: starts it, probes it, restarts it as its policy says, stops it gracefully."""

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from finetune_local import timestamps
from finetune_local.kubelet.container_setup import MissingCommand, termination_file
from finetune_local.kubelet.environment import ConfigError
from finetune_local.kubelet.pod_context import KubeletSettings
from finetune_local.kubelet.probes import Prober, Target, check
from finetune_local.kubelet.process import ContainerProcess, Exit
from finetune_local.kubelet.sandbox.supervisor import Spec
from finetune_local.kubelet.statuses import ContainerRecord
from finetune_local.kubelet.volume_contents import VolumeError

log = logging.getLogger(__name__)

Object = dict[str, Any]

MESSAGE_LIMIT, POD_MESSAGE_LIMIT = 4096, 12 * 1024
"""Bytes of a container's termination message, and of all messages of a pod, of which each container has its share."""
LOG_TAIL_LIMIT = 2048
RETRY = 2.0
"""Seconds between two tries to configure a container whose ConfigMap or Secret is missing."""


class ContainerRunner:
    """`await run()` until the container will not run again."""

    def __init__(
        self,
        settings: KubeletSettings,
        pod: Object,
        container: Object,
        record: ContainerRecord,
        build: Callable[[Object], Awaitable[Spec]],
        on_change: Callable[[], None],
        *,
        restart_policy: str,
    ) -> None:
        self.settings = settings
        self.pod = pod
        self.container = container
        self.record = record
        self.process: ContainerProcess | None = None
        self._build = build
        self._on_change = on_change
        self._policy = restart_policy
        self.up = asyncio.Event()
        """Set when the container has started once, startup probe included."""
        self.ended = asyncio.Event()
        self._stopping = False
        self._backoff = 0.0
        self._probers: list[asyncio.Task[None]] = []
        self._kill_task: asyncio.Task[None] | None = None

    async def run(self) -> None:
        try:
            while not self._stopping:
                started = time.monotonic()
                code = await self._run_once()
                if self._stopping or not self._restarts(code):
                    return
                await self._back_off(time.monotonic() - started)
        finally:
            self.ended.set()

    def _restarts(self, code: int) -> bool:
        return self._policy == "Always" or (self._policy == "OnFailure" and code != 0)

    async def _back_off(self, ran_for: float) -> None:
        """The first restart is immediate; further ones wait 10, 20, 40 … s (see Knobs)."""
        knobs = self.settings.knobs
        if ran_for >= knobs.restart_backoff_reset:
            self._backoff = 0.0
        delay, self._backoff = (
            self._backoff,
            min(max(self._backoff * 2, knobs.restart_backoff), knobs.restart_backoff_limit),
        )
        if delay:
            name = f"{self.pod['metadata']['name']}_{self.pod['metadata']['namespace']}"
            text = f"back-off {delay:g}s restarting failed container={self.container['name']} pod={name}"
            self.record.wait("CrashLoopBackOff", text)
            self._event("Warning", "BackOff", f"Back-off restarting failed container {self.container['name']}")
            self._on_change()
            await asyncio.sleep(delay)
        self.record.restart_count += 1

    async def _run_once(self) -> int:
        spec = await self._configured()
        path = self.settings.log_file(self.pod["metadata"]["uid"], self.container["name"], self.record.restart_count)
        with path.open("ab") as output:
            self.process = await ContainerProcess.start(spec, output)
        started_at = timestamps.now()
        if await self.process.started():
            self._mark_running(started_at)
            self._start_probes()
        ended = await self.process.wait()
        self._stop_probes()
        self._mark_terminated(ended, started_at, path)
        return ended.code

    async def _configured(self) -> Spec:
        """Tries until the container can be configured: what is missing may come."""
        while True:
            try:
                return await self._build(self.container)
            except MissingCommand as error:
                self._cannot_start("CreateContainerError", str(error))
            except (ConfigError, VolumeError) as error:
                self._cannot_start("CreateContainerConfigError", str(error))
            await asyncio.sleep(RETRY)

    def _cannot_start(self, reason: str, message: str) -> None:
        waiting = {"reason": reason, "message": message}
        if self.record.state.get("waiting") != waiting:
            self.record.wait(reason, message)
            self._event("Warning", "Failed", f"Error: {message}")
            self._on_change()

    def _mark_running(self, started_at: str) -> None:
        record = self.record
        if record.terminated is not None:
            record.last_state = record.state
        record.state = {"running": {"startedAt": started_at}}
        record.container_id = f"local://{self.pod['metadata']['uid']}/{record.name}/{record.restart_count}"
        record.started = not self.container.get("startupProbe")
        record.ready = record.started and not self.container.get("readinessProbe")
        if record.started:
            self.up.set()
        self._event("Normal", "Started", f"Started container {record.name}")
        self._on_change()

    def _mark_terminated(self, ended: Exit, started_at: str, log_path: Path) -> None:
        record = self.record
        if record.terminated is not None:
            record.last_state = record.state
        reason = ended.reason or ("Completed" if ended.code == 0 else "Error")
        state = {
            "exitCode": ended.code,
            "reason": reason,
            "startedAt": started_at,
            "finishedAt": timestamps.now(),
            "containerID": record.container_id,
        }
        message = ended.message or self._termination_message(ended.code, log_path)
        record.state = {"terminated": state | ({"message": message} if message else {})}
        record.ready = record.started = False
        if ended.reason:
            self._event("Warning", "Failed", f"Error: {ended.message}")
        self._on_change()

    def _termination_message(self, code: int, log_path: Path) -> str:
        spec = self.pod["spec"]
        share = POD_MESSAGE_LIMIT // (len(spec["containers"]) + len(spec.get("initContainers") or ()))
        raw = termination_file(self.settings, self.pod, self.container).read_bytes()[: min(MESSAGE_LIMIT, share)]
        if raw:
            return raw.decode(errors="replace")
        fallback = self.container.get("terminationMessagePolicy") == "FallbackToLogsOnError"
        return _last_lines(log_path) if fallback and code != 0 else ""

    def _start_probes(self) -> None:
        if startup := self.container.get("startupProbe"):
            self._probe("startup", startup)
        else:
            self._start_steady_probes()
        if hook := (self.container.get("lifecycle") or {}).get("postStart"):
            self._probers.append(asyncio.create_task(self._run_post_start(hook)))

    def _start_steady_probes(self) -> None:
        for kind in ("readiness", "liveness"):
            if probe := self.container.get(f"{kind}Probe"):
                self._probe(kind, probe)

    def _probe(self, kind: str, probe: Object) -> None:
        prober = Prober(kind, probe, self._target(), self._on_verdict)
        self._probers.append(asyncio.create_task(prober.run()))

    def _target(self) -> Target:
        if self.process is None:
            raise RuntimeError(f"container {self.container['name']} is not running")
        ip = self.settings.network.assign(self.pod["metadata"]["uid"])
        return Target(self.process, ip, self.container)

    def _stop_probes(self) -> None:
        for task in self._probers:
            task.cancel()
        self._probers.clear()

    def _on_verdict(self, kind: str, ok: bool, message: str) -> None:
        if not self.record.running:
            return
        if not ok:
            self._event("Warning", "Unhealthy", f"{kind.capitalize()} probe failed: {message}")
        if kind == "readiness":
            self.record.ready = ok
        elif kind == "startup" and ok:
            self.record.started = True
            self.up.set()
            self.record.ready = not self.container.get("readinessProbe")
            self._start_steady_probes()
        elif not ok and not self._stopping and self._kill_task is None:
            reason = f"Container {self.container['name']} failed {kind} probe, will be restarted"
            self._kill_task = asyncio.create_task(self._kill(reason))
        self._on_change()

    async def _kill(self, reason: str) -> None:
        try:
            await self._stop_process(reason, self.pod["spec"].get("terminationGracePeriodSeconds", 30))
        finally:
            self._kill_task = None

    async def _run_post_start(self, hook: Object) -> None:
        ok, message = await check(hook, self._target(), timeout=3600)
        if not ok:
            self._event("Warning", "FailedPostStartHook", message)
            await self._stop_process("FailedPostStartHook", 30)

    async def stop(self, grace: float) -> None:
        """preStop, SIGTERM, and SIGKILL when `grace` seconds are over. No restart follows."""
        self._stopping = True
        await self._stop_process(f"Stopping container {self.container['name']}", grace)

    async def _stop_process(self, reason: str, grace: float) -> None:
        process = self.process
        if process is None or process.ended:
            return
        self._event("Normal", "Killing", reason)
        deadline = time.monotonic() + grace
        await self._pre_stop(process, grace)
        process.signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                await process.wait()
        except TimeoutError:
            await process.kill()

    async def _pre_stop(self, process: ContainerProcess, grace: float) -> None:
        hook = (self.container.get("lifecycle") or {}).get("preStop")
        if not hook or grace <= 0:
            return
        if "sleep" in hook:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), min(grace, hook["sleep"]["seconds"]))
            return
        ok, message = await check(hook, self._target(), timeout=grace)
        if not ok:
            self._event("Warning", "FailedPreStopHook", f"PreStopHook failed: {message}")

    async def kill(self) -> None:
        """Ends the container at once, without a word to it."""
        self._stopping = True
        self._stop_probes()
        if self.process is not None:
            await self.process.kill()

    def _event(self, kind: Any, reason: str, note: str) -> None:
        self.settings.recorder.record(self.pod, kind, reason, note)


def _last_lines(path: Path) -> str:
    """The last 80 lines or 2 KiB of the log, whichever is less."""
    with path.open("rb") as file:
        file.seek(0, 2)
        file.seek(max(0, file.tell() - LOG_TAIL_LIMIT))
        return b"".join(file.readlines()[-80:]).decode(errors="replace")
