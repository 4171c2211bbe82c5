"""Whole operator processes: how they start, hand over, stop and die."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest

from kube.conftest import write_kubeconfig
from kube.fault_server import FaultServer

SCRIPT = Path(__file__).with_name("operator_process.py")


class Operator:
    """One process; `await says("leading")` reads on until it has printed that line."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.said: list[str] = []

    async def says(self, text: str) -> str:
        assert self.process.stdout is not None
        async with asyncio.timeout(60):
            for line in self.said:
                if line.startswith(text):
                    return line
            while raw := await self.process.stdout.readline():
                self.said.append(raw.decode().strip())
                if self.said[-1].startswith(text):
                    return self.said[-1]
        raise AssertionError(f"ended ({await self.process.wait()}) without {text!r}: {self.said}")

    async def ends(self) -> int:
        async with asyncio.timeout(60):
            return await self.process.wait()

    async def asks(self, path: str) -> int:
        port = (await self.says("probes")).split()[1]
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}{path}") as answer:
            return answer.status


Launch = Callable[..., Awaitable[Operator]]


@pytest.fixture
async def launch(server: FaultServer, tmp_path: Path) -> AsyncIterator[Launch]:
    operators: list[Operator] = []
    kubeconfig = write_kubeconfig(tmp_path / "kubeconfig", server.url)

    async def start(identity: str, **options: float) -> Operator:
        extra = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(SCRIPT),
            "--kubeconfig",
            str(kubeconfig),
            "--identity",
            identity,
            *extra,
            stdout=asyncio.subprocess.PIPE,
            env=os.environ | {"TZ": "Asia/Tokyo"},
        )
        operators.append(Operator(process))
        return operators[-1]

    yield start
    for operator in operators:
        with contextlib.suppress(ProcessLookupError):
            operator.process.send_signal(signal.SIGCONT)
            operator.process.kill()
        await operator.process.wait()


def holder(server: FaultServer) -> str:
    return server.collections["leases"].items["d", "lock"]["spec"]["holderIdentity"]


async def test_standby_is_warm_and_takes_over_when_the_leader_stops(launch: Launch, server: FaultServer) -> None:
    await server.put("things", "a")
    first = await launch("one", lease=60)
    await first.says("reconciled a")
    second = await launch("two", lease=60)
    await second.says("probes")
    while await second.asks("/readyz") != 200:
        await asyncio.sleep(0.05)
    assert "leading" not in second.said
    first.process.send_signal(signal.SIGTERM)
    assert await first.ends() == 0
    async with asyncio.timeout(30):  # a retry, not the 60 s of the lease
        await second.says("reconciled a")
    assert holder(server) == "two"
    second.process.send_signal(signal.SIGTERM)
    assert await second.ends() == 0
    assert holder(server) == ""
    assert [event["note"] for event in server.collections["events"].items.values()] == ["one", "two"]


async def test_stop_lets_a_busy_worker_finish(launch: Launch, server: FaultServer) -> None:
    await server.put("things", "slow")
    operator = await launch("one", slow=1.0)
    await operator.says("reconciling slow")
    operator.process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(30):
        while await operator.asks("/readyz") != 503:  # webhooks and reports go to another replica meanwhile
            await asyncio.sleep(0.02)
    await operator.says("reconciled slow")
    assert await operator.ends() == 0
    assert holder(server) == ""


async def test_worker_that_does_not_finish_in_time_is_cancelled_before_the_lease_is_given_back(
    launch: Launch, server: FaultServer
) -> None:
    await server.put("things", "slow")
    operator = await launch("one", slow=600, grace=0.3)
    await operator.says("reconciling slow")
    operator.process.send_signal(signal.SIGTERM)
    assert await operator.ends() == 0
    assert holder(server) == ""
    assert not any(line == "reconciled slow" for line in operator.said)


async def test_standby_stops_at_once(launch: Launch, server: FaultServer) -> None:
    first = await launch("one", lease=60)
    await first.says("leading")
    second = await launch("two", lease=60)
    await second.says("probes")
    second.process.send_signal(signal.SIGINT)
    assert await second.ends() == 0
    assert holder(server) == "one"


async def test_killed_leader_is_replaced_when_its_lease_has_run_out(launch: Launch, server: FaultServer) -> None:
    first = await launch("one")
    await first.says("leading")
    second = await launch("two")
    await second.says("probes")
    first.process.kill()
    await first.ends()
    await second.says("leading")
    assert holder(server) == "two"


async def test_frozen_api_server_ends_the_leader_before_its_lease_runs_out(launch: Launch, server: FaultServer) -> None:
    operator = await launch("one", lease=6.0)
    await operator.says("leading")
    await server.until_seen("PUT", 2)
    server.freeze()
    frozen_at = time.monotonic()
    code = await operator.ends()
    assert code not in (0, None)
    assert time.monotonic() - frozen_at < 6.0 + 5.0  # its work ended within 6 s; the process follows
    server.thaw()


async def test_frozen_leader_does_nothing_more_when_it_wakes(launch: Launch, server: FaultServer) -> None:
    first = await launch("one")
    await first.says("leading")
    first.process.send_signal(signal.SIGSTOP)
    second = await launch("two")
    await second.says("leading")
    await server.put("things", "a")
    await second.says("reconciled a")
    first.process.send_signal(signal.SIGCONT)
    assert await first.ends() != 0
    assert first.process.stdout is not None
    assert b"reconciling" not in await first.process.stdout.read()
    assert holder(server) == "two"


async def test_crashed_worker_takes_the_process_with_it(launch: Launch, server: FaultServer) -> None:
    operator = await launch("one")
    await operator.says("leading")
    await server.put("things", "crash")
    assert await operator.ends() == 7
