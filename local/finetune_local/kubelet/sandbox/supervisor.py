"""Starts one container's process and outlives it by nothing.

    python -I -S -c '…; main()' CONTROL_FD PARENT_PID

The control socket carries JSON lines. In: the `Spec` first, then {"signal": N} and {"exec": [...], "id", "timeout"}.
Out: {"event": "started"|"exited"|"failed"|"exec", ...}. When the other end closes, everything here is killed, so that
nothing stays behind a parent that was SIGKILLed. With a PID namespace the kernel sees to it as well: this process dies
with its parent, the namespace's first process with this one, and all others with that. Without one this process must
not die first: it is the one that finds and kills the container's processes.
"""

import json
import os
import signal
import socket
import sys
from dataclasses import dataclass, field
from typing import Any

from finetune_local.kubelet.sandbox import libc
from finetune_local.kubelet.sandbox.init import Init
from finetune_local.kubelet.sandbox.root import ContainerRoot, Mount

FULL = "full"
MOUNTS = "mounts"
NONE = "none"


@dataclass(frozen=True)
class Spec:
    """What to run and how much of it to isolate."""

    argv: list[str]
    env: dict[str, str]
    cwd: str = "/"
    hostname: str = "localhost"
    root: str = ""
    """An empty folder for the mount point of the new root."""
    isolation: str = FULL
    """`full`: user, mount, UTS and PID namespaces; `mounts`: all but the PID namespace; `none`."""
    mounts: list[Mount] = field(default_factory=list)
    processors: list[int] = field(default_factory=list)
    """Numbers of the processors it may run on; empty: all."""

    @classmethod
    def parse(cls, line: bytes) -> "Spec":
        values: dict[str, Any] = json.loads(line)
        values["mounts"] = [Mount(**mount) for mount in values.get("mounts", [])]
        return cls(**values)


class Control:
    """The control socket, as lines of JSON."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._buffer = b""

    def send(self, **event: Any) -> None:
        try:
            self.sock.sendall(json.dumps(event).encode() + b"\n")
        except OSError:  # the reader is gone: so are we, as soon as the loop sees the closed socket
            return

    def read(self) -> list[dict[str, Any]] | None:
        """The messages that one read brings, None at the end of the stream."""
        data = self.sock.recv(65536)
        if not data:
            return None
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        return [json.loads(line) for line in lines if line]

    def read_line(self) -> bytes:
        while b"\n" not in self._buffer:
            data = self.sock.recv(65536)
            if not data:
                os._exit(0)
            self._buffer += data
        line, self._buffer = self._buffer.split(b"\n", 1)
        return line


def main() -> None:
    os.set_inheritable(int(sys.argv[1]), False)
    control = Control(socket.socket(fileno=int(sys.argv[1])))
    parent = int(sys.argv[2])
    spec = Spec.parse(control.read_line())
    try:
        status = _run(spec, control, parent)
    except (OSError, ValueError) as error:
        control.send(event="failed", reason="CreateContainerError", message=str(error))
        status = 128
    os._exit(status)


def _run(spec: Spec, control: Control, parent: int) -> int:
    if spec.processors:
        os.sched_setaffinity(0, spec.processors)
    if spec.isolation == NONE:
        libc.adopt_orphans()
        return Init(spec, control, whole_namespace=False).run()
    flags = libc.CLONE_NEWUSER | libc.CLONE_NEWNS | libc.CLONE_NEWUTS
    if spec.isolation == FULL:
        flags |= libc.CLONE_NEWPID
    _unshare(flags)
    if spec.isolation == MOUNTS:
        libc.adopt_orphans()
        return _enter_and_run(spec, control)
    libc.die_with_parent(parent)
    return _fork_first_process(spec, control)


def _unshare(flags: int) -> None:
    """New namespaces, in which the user keeps the own ids: no capability survives the container's exec."""
    uid, gid = os.getuid(), os.getgid()
    libc.unshare(flags)
    _write("/proc/self/setgroups", "deny")
    _write("/proc/self/uid_map", f"{uid} {uid} 1")
    _write("/proc/self/gid_map", f"{gid} {gid} 1")


def _fork_first_process(spec: Spec, control: Control) -> int:
    """PID 1 of the namespace: the kernel kills all others in it when it ends."""
    alive, held = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(held)
        _become_first_process(spec, control, alive)
    control.sock.close()
    os.close(alive)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) & 0xFF


def _become_first_process(spec: Spec, control: Control, alive: int) -> None:
    """Never returns. `alive` is a pipe that ends with the parent, whose id cannot be seen from in here."""
    try:
        libc.die_with_parent(0)
        os.set_blocking(alive, False)
        if _ended(alive):
            os._exit(137)
        os._exit(_enter_and_run(spec, control))
    except (OSError, ValueError) as error:
        control.send(event="failed", reason="CreateContainerError", message=str(error))
    os._exit(128)


def _ended(pipe: int) -> bool:
    try:
        return os.read(pipe, 1) == b""
    except BlockingIOError:
        return False


def _enter_and_run(spec: Spec, control: Control) -> int:
    whole = spec.isolation == FULL
    libc.set_hostname(spec.hostname)
    root = ContainerRoot(spec.root)
    root.build(spec.mounts, new_proc=whole)
    root.enter()
    return Init(spec, control, whole_namespace=whole).run()


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)
