"""The container's init: starts its command, answers the control socket, reaps, and kills what is left at the end."""

from __future__ import annotations

import os
import selectors
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from finetune_local.kubelet.sandbox import libc

if TYPE_CHECKING:
    from finetune_local.kubelet.sandbox.supervisor import Control, Spec

OUTPUT_LIMIT = 10 * 1024
START_ERROR = 128
"""Exit code that container runtimes give a command that could not be started."""


@dataclass
class Exec:
    """A command that runs beside the main one: a probe or a lifecycle hook."""

    id: int
    pipe: int
    deadline: float
    output: bytes = b""
    timed_out: bool = False


class Init:
    def __init__(self, spec: Spec, control: Control, *, whole_namespace: bool) -> None:
        self.spec = spec
        self.control = control
        self.whole_namespace = whole_namespace
        self.main = 0
        self.code: int | None = None
        self.execs: dict[int, Exec] = {}
        self.selector = selectors.DefaultSelector()

    def run(self) -> int:
        wake = self._watch_children()
        self.selector.register(self.control.sock, selectors.EVENT_READ)
        self.selector.register(wake, selectors.EVENT_READ)
        self._start_main()
        while self.code is None:
            for key, _ in self.selector.select(self._next_deadline()):
                self._handle(key, wake)
            self._reap()
            self._end_late_execs()
        if not self.whole_namespace:
            end_descendants()
        self.control.send(event="exited", code=self.code)
        return self.code & 0xFF

    def _watch_children(self) -> int:
        wake, notify = os.pipe()
        os.set_blocking(wake, False)
        os.set_blocking(notify, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        signal.set_wakeup_fd(notify, warn_on_full_buffer=False)
        return wake

    def _handle(self, key: selectors.SelectorKey, wake: int) -> None:
        if key.fileobj is self.control.sock:
            self._read_control()
        elif key.fd == wake:
            os.read(wake, 4096)
        else:
            self._read_output(key.data)

    def _read_control(self) -> None:
        messages = self.control.read()
        if messages is None:
            self._abandon()
        for message in messages or []:
            if "signal" in message:
                self._signal(message["signal"])
            elif "exec" in message:
                self._start_exec(message)

    def _abandon(self) -> None:
        """Nobody is there to hear of this container: end it and everything that it started."""
        if not self.whole_namespace:
            end_descendants()
        os._exit(137)

    def _signal(self, number: int) -> None:
        if number == signal.SIGKILL and not self.whole_namespace:
            end_descendants(reap=False)
        try:
            os.kill(self.main, number)
        except ProcessLookupError:
            return

    def _start_main(self) -> None:
        report, failure = os.pipe()
        os.set_inheritable(failure, False)
        self.main = os.fork()
        if self.main == 0:
            os.close(report)
            self._exec(self.spec.argv, failure)
        os.close(failure)
        message = os.read(report, 4096).decode(errors="replace")
        os.close(report)
        if message:
            os.waitpid(self.main, 0)
            self.control.send(event="failed", reason="StartError", message=message)
            os._exit(START_ERROR)
        self.control.send(event="started", pid=self.main)

    def _exec(self, argv: list[str], failure: int) -> None:
        """In the forked child: never returns."""
        try:
            os.setsid()
            if not self.whole_namespace:
                libc.die_with_parent(os.getppid())
            for number in (signal.SIGCHLD, signal.SIGPIPE, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, set())
            os.chdir(self.spec.cwd)
            os.execvpe(argv[0], argv, self.spec.env)
        except OSError as error:
            os.write(failure, describe(argv[0], error, self.spec).encode())
        os._exit(START_ERROR)

    def _start_exec(self, message: dict[str, Any]) -> None:
        output, write_end = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.dup2(write_end, 1)
            os.dup2(write_end, 2)
            self._exec(message["exec"], 2)
        os.close(write_end)
        os.set_blocking(output, False)
        running = Exec(message["id"], output, time.monotonic() + message["timeout"])
        self.execs[pid] = running
        self.selector.register(output, selectors.EVENT_READ, running)

    def _read_output(self, running: Exec) -> None:
        try:
            data = os.read(running.pipe, 65536)
        except BlockingIOError:
            return
        running.output = (running.output + data)[:OUTPUT_LIMIT]
        if not data:
            self.selector.unregister(running.pipe)
            os.close(running.pipe)
            running.pipe = -1

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self.main:
                self.code = exit_code(status)
            elif pid in self.execs:
                self._finish_exec(self.execs.pop(pid), exit_code(status))

    def _finish_exec(self, running: Exec, code: int) -> None:
        if running.pipe >= 0:
            self._read_output(running)
        if running.pipe >= 0:
            self.selector.unregister(running.pipe)
            os.close(running.pipe)
        output = running.output.decode(errors="replace")
        self.control.send(event="exec", id=running.id, code=code, output=output, timed_out=running.timed_out)

    def _next_deadline(self) -> float | None:
        deadlines = [one.deadline for one in self.execs.values() if not one.timed_out]
        return max(0.0, min(deadlines) - time.monotonic()) if deadlines else None

    def _end_late_execs(self) -> None:
        now = time.monotonic()
        for pid, running in self.execs.items():
            if now >= running.deadline and not running.timed_out:
                running.timed_out = True
                os.killpg(pid, signal.SIGKILL)


def exit_code(status: int) -> int:
    """As a shell and container runtimes say it: 128 + n for a process that signal n ended."""
    code = os.waitstatus_to_exitcode(status)
    return 128 - code if code < 0 else code


def describe(command: str, error: OSError, spec: Spec) -> str:
    if not os.path.isdir(spec.cwd):
        return f"workingDir {spec.cwd}: {error.strerror}"
    if isinstance(error, FileNotFoundError) and "/" not in command:
        return f'exec: "{command}": executable file not found in $PATH'
    return f'exec: "{command}": {error.strerror}'


def end_descendants(*, reap: bool = True) -> None:
    """SIGKILLs every descendant. Needs `adopt_orphans`, else those whose parent ended escape."""
    while True:
        for pid in descendants(os.getpid()):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        if not reap:
            return
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def descendants(ancestor: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for pid, parent in _parents():
        children.setdefault(parent, []).append(pid)
    found, pending = [], [ancestor]
    while pending:
        for child in children.get(pending.pop(), []):
            found.append(child)
            pending.append(child)
    return found


def _parents() -> list[tuple[int, int]]:
    pairs = []
    for name in os.listdir("/proc") if os.path.isdir("/proc/self") else []:
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    fields = file.read().rpartition(b")")[2].split()
            except OSError:  # it ended while we looked
                continue
            pairs.append((int(name), int(fields[1])))
    return pairs
