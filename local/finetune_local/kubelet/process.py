"""A container's process, seen from the cluster: start it under its supervisor, signal it, run commands beside it."""

import asyncio
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any

from finetune_local.kubelet.sandbox.supervisor import FULL, MOUNTS, NONE, Spec

_PACKAGE_ROOT = str(Path(__file__).resolve().parents[2])
_START = f"import sys; sys.path.insert(0, {_PACKAGE_ROOT!r}); " + (
    "from finetune_local.kubelet.sandbox.supervisor import main; main()"
)
LOST = 137
"""Exit code when the supervisor vanished without a word: it was SIGKILLed."""


@dataclass(frozen=True)
class Exit:
    """How a container ended; `reason` is set when it never started."""

    code: int
    reason: str = ""
    message: str = ""


@dataclass(frozen=True)
class ExecResult:
    code: int
    output: str
    timed_out: bool = False


class ContainerProcess:
    """One run of one container. `await wait()` tells how it ended; by then no process of it is left."""

    def __init__(self, supervisor: subprocess.Popen[bytes], reader: asyncio.StreamReader, writer: Any) -> None:
        self._supervisor = supervisor
        self._reader = reader
        self._writer = writer
        self._ids = itertools.count(1)
        self._execs: dict[int, asyncio.Future[ExecResult]] = {}
        loop = asyncio.get_running_loop()
        self._started: asyncio.Future[bool] = loop.create_future()
        self._exited: asyncio.Future[Exit] = loop.create_future()
        self._task = asyncio.create_task(self._listen())

    @classmethod
    async def start(cls, spec: Spec, log: IO[bytes] | int) -> "ContainerProcess":
        """`log` takes stdout and stderr."""
        ours, theirs = socket.socketpair()
        with theirs:
            supervisor = _spawn(theirs.fileno(), log)
        reader, writer = await asyncio.open_connection(sock=ours)
        writer.write(json.dumps(asdict(spec)).encode() + b"\n")
        return cls(supervisor, reader, writer)

    @property
    def pid(self) -> int:
        """The supervisor's PID on the host."""
        return self._supervisor.pid

    @property
    def ended(self) -> bool:
        return self._exited.done()

    async def started(self) -> bool:
        """Waits until the command runs; False when it could not be started."""
        return await asyncio.shield(self._started)

    async def wait(self) -> Exit:
        return await asyncio.shield(self._exited)

    def signal(self, number: int) -> None:
        if not self.ended:
            self._send({"signal": int(number)})

    async def exec(self, argv: list[str], timeout: float) -> ExecResult:
        """Runs a command in the container; exit code 137 and `timed_out` when it took longer than `timeout` s."""
        if self.ended:
            return ExecResult(LOST, "container is not running")
        number = next(self._ids)
        future: asyncio.Future[ExecResult] = asyncio.get_running_loop().create_future()
        self._execs[number] = future
        self._send({"exec": argv, "id": number, "timeout": timeout})
        return await future

    async def kill(self) -> None:
        """Ends every process of the container and waits for that."""
        self._supervisor.send_signal(signal.SIGCONT)
        self._writer.close()
        await self.wait()

    def _send(self, message: dict[str, Any]) -> None:
        if not self._writer.is_closing():
            self._writer.write(json.dumps(message).encode() + b"\n")

    async def _listen(self) -> None:
        ended: Exit | None = None
        try:
            while line := await self._reader.readline():
                ended = self._handle(json.loads(line)) or ended
        except ConnectionError:
            ended = ended or None
        await asyncio.to_thread(self._supervisor.wait)
        self._writer.close()
        self._settle(ended or Exit(LOST))

    def _handle(self, event: dict[str, Any]) -> Exit | None:
        match event["event"]:
            case "started":
                self._started.set_result(True)
            case "exited":
                return Exit(event["code"])
            case "failed":
                return Exit(128, event["reason"], event["message"])
            case "exec":
                result = ExecResult(event["code"], event["output"], event["timed_out"])
                self._execs.pop(event["id"]).set_result(result)
        return None

    def _settle(self, ended: Exit) -> None:
        if not self._started.done():
            self._started.set_result(False)
        for future in self._execs.values():
            future.set_result(ExecResult(LOST, "container ended"))
        self._execs.clear()
        self._exited.set_result(ended)


def _spawn(control: int, log: IO[bytes] | int) -> subprocess.Popen[bytes]:
    """Takes a few milliseconds; asyncio's own way needs a thread for each child."""
    return subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _START, str(control), str(os.getpid())],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        pass_fds=[control],
        start_new_session=True,
        cwd="/",
        env={"PATH": os.defpath},
    )


async def find_isolation(folder: Path) -> str:
    """The best isolation that this machine allows to this user."""
    root = folder / "isolation-test"
    root.mkdir(parents=True, exist_ok=True)
    spec = Spec(argv=["true"], env={"PATH": os.defpath}, root=str(root))
    for isolation in (FULL, MOUNTS) if sys.platform.startswith("linux") else ():
        process = await ContainerProcess.start(replace(spec, isolation=isolation), subprocess.DEVNULL)
        if (await process.wait()).code == 0:
            return isolation
    return NONE
