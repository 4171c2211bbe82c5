"""The real server in a process of its own."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import httpx

START_SECONDS = 120


class ServerProcess:
    """`finetune-serving` on a free port; its log is kept for failing tests."""

    def __init__(self, arguments: Sequence[str], termination_file: Path | None = None) -> None:
        environment = os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
        if termination_file:
            environment["FINETUNE_TERMINATION_FILE"] = str(termination_file)
        command = str(Path(sys.executable).with_name("finetune-serving"))
        self.process = subprocess.Popen(
            [command, "--host", "127.0.0.1", "--port", "0", *arguments],
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self.log: list[str] = []
        self._url = ""
        self._listening = threading.Event()
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()

    def _read_log(self) -> None:
        assert self.process.stderr
        for line in self.process.stderr:
            self.log.append(line)
            if found := re.search(r"listening on (http://\S+)", line):
                self._url = found[1]
                self._listening.set()
        self._listening.set()

    @property
    def url(self) -> str:
        assert self._listening.wait(START_SECONDS), "".join(self.log)
        assert self._url, "".join(self.log)
        return self._url

    def wait_ready(self) -> "ServerProcess":
        deadline = time.monotonic() + START_SECONDS
        # A server that imports PyTorch on a busy machine may answer late: only the deadline is an error.
        while httpx.get(f"{self.url}/v2/health/ready", timeout=START_SECONDS).status_code != 200:
            assert self.process.poll() is None, "".join(self.log)
            assert time.monotonic() < deadline, "".join(self.log)
            time.sleep(0.05)
        return self

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def wait(self) -> int:
        code = self.process.wait(START_SECONDS)
        self._reader.join(5)
        return code

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.wait()
