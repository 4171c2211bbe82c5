"""Progress reports against real HTTP servers, good and bad."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from finetune_trainer.progress import Receiver, Reporter


@dataclass
class Inbox:
    """What a receiver got, and how it answers."""

    status: int = 204
    bodies: list[dict[str, Any]] = field(default_factory=list)
    tokens: list[str | None] = field(default_factory=list)
    arrived: threading.Condition = field(default_factory=threading.Condition)
    url: str = ""
    connections: int = 0
    hang_up: bool = False

    def await_reports(self, count: int) -> None:
        with self.arrived:
            assert self.arrived.wait_for(lambda: len(self.bodies) >= count, timeout=30), self.bodies


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    received = Inbox()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            received.connections += 1
            super().setup()

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with received.arrived:
                received.bodies.append(body)
                received.tokens.append(self.headers["Authorization"])
                received.arrived.notify_all()
                status = received.status
            self.send_response(status)
            words = b"" if status == 204 else b"not now"
            self.send_header("Content-Length", str(len(words)))
            self.end_headers()
            self.wfile.write(words)
            self.close_connection, received.hang_up = self.close_connection or received.hang_up, False

        def log_message(self, *arguments: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    received.url = f"http://127.0.0.1:{server.server_port}/v1/jobs/ml/tickets/progress"
    yield received
    server.shutdown()
    server.server_close()


def test_a_report_arrives_as_the_operator_reads_it(inbox: Inbox) -> None:
    reporter = Reporter(Receiver(inbox.url), attempt=2)

    reporter.update(step=3, total_steps=10, loss=0.5, checkpoint={"step": 2, "uri": "s3://c/step-2"})
    reporter.close()

    assert inbox.bodies == [
        {
            "attempt": 2,
            "stage": "Training",
            "step": 3,
            "totalSteps": 10,
            "epoch": 0.0,
            "loss": 0.5,
            "stragglers": [],
            "checkpoint": {"step": 2, "uri": "s3://c/step-2"},
        }
    ]


def test_only_the_newest_of_many_is_sent_and_the_last_always_is(inbox: Inbox) -> None:
    reporter = Reporter(Receiver(inbox.url), interval=60)
    reporter.update(step=1)
    inbox.await_reports(1)

    for step in range(2, 500):
        reporter.update(step=step)
    reporter.close()

    assert [body["step"] for body in inbox.bodies] == [1, 499]


def test_what_was_said_once_stays_said(inbox: Inbox) -> None:
    reporter = Reporter(Receiver(inbox.url), interval=0.01)

    reporter.update(step=1, best_metric={"f1": 0.9})
    inbox.await_reports(1)
    reporter.update(stage="Evaluating")
    reporter.close()

    assert inbox.bodies[-1]["bestMetric"] == {"f1": 0.9}
    assert inbox.bodies[-1]["stage"] == "Evaluating"


def test_the_token_is_read_anew_for_every_report(inbox: Inbox, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("first\n")
    reporter = Reporter(Receiver(inbox.url, token_file=token), interval=0.01)
    reporter.update(step=1)
    inbox.await_reports(1)

    token.write_text("second\n")
    reporter.update(step=2)
    reporter.close()

    assert inbox.tokens == ["Bearer first", "Bearer second"]


def test_reports_share_a_connection_until_the_other_side_closes_it(inbox: Inbox) -> None:
    reporter = Reporter(Receiver(inbox.url), interval=0.01)
    for step in (1, 2, 3):
        reporter.update(step=step)
        inbox.await_reports(step)
    assert inbox.connections == 1

    inbox.hang_up = True  # after the next answer, without a word of warning
    reporter.update(step=4)
    inbox.await_reports(4)
    reporter.update(step=5)
    inbox.await_reports(5)
    reporter.close()

    assert [body["step"] for body in inbox.bodies] == [1, 2, 3, 4, 5]
    assert inbox.connections == 2


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_numbers_that_json_lacks_are_left_out(inbox: Inbox, bad: float) -> None:
    reporter = Reporter(Receiver(inbox.url))

    reporter.update(step=1, loss=bad, best_metric={"f1": bad, "loss": 1.0})
    reporter.close()

    assert "loss" not in inbox.bodies[0]
    assert inbox.bodies[0]["bestMetric"] == {"loss": 1.0}


def test_a_report_that_makes_no_sense_is_dropped_and_not_raised(inbox: Inbox, caplog: pytest.LogCaptureFixture) -> None:
    reporter = Reporter(Receiver(inbox.url))

    reporter.update(step=-1)
    reporter.close()

    assert inbox.bodies == []
    assert "a progress report was dropped" in caplog.text


def test_a_refusal_is_logged_and_tried_again(inbox: Inbox, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    inbox.status = 503
    reporter = Reporter(Receiver(inbox.url), interval=0.01)
    reporter.update(step=1)
    inbox.await_reports(2)
    with inbox.arrived:
        inbox.status = 204
        sent = len(inbox.bodies)
    inbox.await_reports(sent + 1)
    reporter.update(step=2)
    reporter.close()

    assert inbox.bodies[-1]["step"] == 2
    assert "progress report not delivered (1 in a row): HTTP status 503: not now" in caplog.text
    assert "progress reports arrive again" in caplog.text


def test_a_receiver_that_never_answers_holds_nothing_up(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        reporter = Reporter(Receiver(f"http://127.0.0.1:{silent.getsockname()[1]}/"), timeout=60)
        started = time.monotonic()
        for step in range(1000):
            reporter.update(step=step)
        reporter.close(timeout=0.2)

        assert time.monotonic() - started < 30
        assert reporter.latest.step == 999


def test_a_missing_token_or_server_is_no_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    for receiver in (
        Receiver(f"http://127.0.0.1:{port}/", token_file=tmp_path / "no-token"),
        Receiver(f"http://127.0.0.1:{port}/"),
        Receiver(f"https://127.0.0.1:{port}/", ca_file=tmp_path / "no-ca"),
        Receiver("nonsense"),
    ):
        caplog.clear()
        reporter = Reporter(receiver)
        reporter.update(step=1)
        reporter.close()
        assert "progress report not delivered (1 in a row)" in caplog.text


def test_nobody_listens_without_a_url() -> None:
    assert Receiver.from_environment({}) is None
    reporter = Reporter.silent()
    reporter.update(step=4)
    reporter.close()
    assert reporter.latest.step == 4


def test_the_operator_says_where_by_the_environment() -> None:
    receiver = Receiver.from_environment(
        {
            "FINETUNE_PROGRESS_URL": "https://operator:9443/x",
            "FINETUNE_PROGRESS_TOKEN_FILE": "/token",
            "FINETUNE_PROGRESS_CA_FILE": "/ca.crt",
        }
    )

    assert receiver == Receiver("https://operator:9443/x", Path("/token"), Path("/ca.crt"))
