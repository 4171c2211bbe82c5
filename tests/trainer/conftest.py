"""What the trainer's tests share: tiny models and data, and a server that speaks S3."""

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from finetune_operator.cli.ports import free_port
from trainer.model_fixtures import (  # noqa: F401
    questions,
    tickets,
    tiny_bert,
    tiny_deepseek,
    tiny_gpt2,
    tiny_llama,
    tiny_qwen,
    wild_bert,
)

MOTO = Path(sys.prefix) / "s3-server" / "bin" / "moto_server"


@dataclass(frozen=True)
class S3Server:
    """A running moto server and one bucket in it."""

    endpoint: str
    bucket: str

    def environment(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
        }


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """A server that speaks S3, in a process and a virtual environment of its own."""
    port = free_port()
    endpoint = f"http://127.0.0.1:{port}"
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    server = subprocess.Popen(
        [MOTO, "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment,
    )
    try:
        _await_answer(endpoint, server)
        yield endpoint
    finally:
        server.terminate()
        server.wait(30)


@pytest.fixture
def s3(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> S3Server:
    """A fresh bucket, with its endpoint and credentials in the environment."""
    bucket = f"bucket-{abs(hash(request.node.nodeid))}"
    urllib.request.urlopen(urllib.request.Request(f"{s3_endpoint}/{bucket}", method="PUT"))
    server = S3Server(s3_endpoint, bucket)
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    return server


def _await_answer(endpoint: str, server: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert server.poll() is None, "the S3 server ended while it was starting"
        try:
            urllib.request.urlopen(endpoint, timeout=5)
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.1)
    raise TimeoutError(f"no S3 server at {endpoint}")
