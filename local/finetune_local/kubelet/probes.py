"""Startup, readiness and liveness probes."""

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import aiohttp

from finetune_local.kubelet.process import ContainerProcess

Object = dict[str, Any]


@dataclass(frozen=True)
class Target:
    """What a probe or a lifecycle hook acts on."""

    process: ContainerProcess
    ip: str
    container: Object

    def port(self, value: int | str) -> int:
        if isinstance(value, int):
            return value
        for port in self.container.get("ports") or []:
            if port.get("name") == value:
                return int(port["containerPort"])
        return int(value)


async def check(handler: Object, target: Target, timeout: float) -> tuple[bool, str]:
    """Whether the handler succeeded, and what it said when not."""
    try:
        async with asyncio.timeout(timeout + 0.5):
            if "exec" in handler:
                return await _check_exec(handler["exec"]["command"], target, timeout)
            if "httpGet" in handler:
                return await _check_http(handler["httpGet"], target, timeout)
            if "tcpSocket" in handler:
                return await _check_tcp(handler["tcpSocket"], target)
    except TimeoutError:
        return False, f"timed out after {timeout} s"
    except (OSError, aiohttp.ClientError, ValueError) as error:
        return False, str(error)
    return False, f"{', '.join(handler)}: only exec, httpGet and tcpSocket are supported here"


async def _check_exec(command: list[str], target: Target, timeout: float) -> tuple[bool, str]:
    result = await target.process.exec(command, timeout)
    if result.timed_out:
        return False, f"command {command[0]!r} timed out after {timeout} s"
    return result.code == 0, result.output.strip()


async def _check_http(action: Object, target: Target, timeout: float) -> tuple[bool, str]:
    scheme = action.get("scheme", "HTTP").lower()
    host = action.get("host") or target.ip
    url = f"{scheme}://{host}:{target.port(action['port'])}/{action.get('path', '/').lstrip('/')}"
    headers = {one["name"]: one["value"] for one in action.get("httpHeaders") or []}
    insecure = ssl.create_default_context()
    insecure.check_hostname = False
    insecure.verify_mode = ssl.CERT_NONE
    limit = aiohttp.ClientTimeout(total=timeout)
    async with (
        aiohttp.ClientSession(timeout=limit, headers={"User-Agent": "kube-probe/1.36", **headers}) as session,
        session.get(url, ssl=insecure, allow_redirects=False) as answer,
    ):
        return 200 <= answer.status < 400, f"HTTP probe failed with statuscode: {answer.status}"


async def _check_tcp(action: Object, target: Target) -> tuple[bool, str]:
    _, writer = await asyncio.open_connection(action.get("host") or target.ip, target.port(action["port"]))
    writer.close()
    return True, ""


class Prober:
    """Runs one probe until cancelled; `on_verdict` hears whenever a threshold is reached."""

    def __init__(self, kind: str, probe: Object, target: Target, on_verdict: Callable[[str, bool, str], None]) -> None:
        self.kind = kind
        self._probe = probe
        self._target = target
        self._on_verdict = on_verdict

    async def run(self) -> None:
        await asyncio.sleep(self._probe.get("initialDelaySeconds") or 0)
        in_a_row, last = 0, None
        while True:
            ok, message = await check(self._probe, self._target, self._probe.get("timeoutSeconds") or 1)
            in_a_row = in_a_row + 1 if ok == last else 1
            last = ok
            if in_a_row == self._threshold(ok):
                self._on_verdict(self.kind, ok, message)
                if ok and self.kind == "startup":
                    return
            await asyncio.sleep(self._probe.get("periodSeconds") or 10)

    def _threshold(self, ok: bool) -> int:
        if ok:
            return self._probe.get("successThreshold") or 1
        return self._probe.get("failureThreshold") or 3
