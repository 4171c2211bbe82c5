"""The last words of a process fit where the kubelet reads them."""

import json
from pathlib import Path

import pytest
import torch

from finetune_api.reports import TerminationMessage, TrainingResult
from finetune_storage.errors import AccessDeniedError, NotFoundError, UnavailableError
from finetune_trainer import termination
from finetune_trainer.errors import ConfigurationError, DataError, Preempted, exit_code_of, of_field


def test_a_short_message_is_one_line_of_json(tmp_path: Path) -> None:
    result = TrainingResult(artifact_uri="s3://m/x", artifact_digest="sha256:1", metrics={"f1": 0.9})

    termination.write(termination.success(result, step=7), tmp_path / "message")

    text = (tmp_path / "message").read_text()
    assert text.count("\n") == 1
    body = json.loads(text)
    assert (body["outcome"], body["step"], body["result"]["metrics"]) == ("Succeeded", 7, {"f1": 0.9})


@pytest.mark.parametrize("letter", ["x", "ü", "漢", "\U0001f600", "\x00", '"'])
def test_a_long_message_is_cut_in_its_middle_to_fit(letter: str) -> None:
    message = TerminationMessage(outcome="DataError", message=f"first {letter * 9000} last")

    line = termination.encode(message)

    assert len(line) <= 4096
    body = json.loads(line)
    assert body["message"].startswith("first ")
    assert body["message"].endswith(" last")
    assert termination.CUT in body["message"]


def test_metrics_give_way_and_the_artifact_stays() -> None:
    result = TrainingResult(
        artifact_uri="s3://" + "b" * 1000,
        artifact_digest="sha256:" + "0" * 64,
        metrics={f"metric_{i}_{'x' * 150}": i / 3 for i in range(32)},
        versions={f"package{i}": "1" * 50 for i in range(16)},
    )

    line = termination.encode(TerminationMessage(outcome="Succeeded", message="m" * 5000, result=result))

    assert len(line) <= 4096
    read = TerminationMessage.model_validate_json(line)
    assert read.result is not None
    assert (read.result.artifact_uri, read.result.artifact_digest) == (result.artifact_uri, result.artifact_digest)
    assert 0 < len(read.result.metrics) < 32


def test_beside_other_containers_it_fits_into_its_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINETUNE_TERMINATION_BYTES", "1024")
    metrics = {f"metric_{i}": i / 3 for i in range(64)}
    result = TrainingResult(artifact_uri="s3://m/x", artifact_digest="sha256:1", metrics=metrics)

    termination.write(termination.success(result), tmp_path / "message")

    assert (tmp_path / "message").stat().st_size <= 1024
    read = termination.read(tmp_path / "message")
    assert read is not None
    assert read.result is not None
    assert (read.result.artifact_uri, read.result.artifact_digest) == ("s3://m/x", "sha256:1")


def test_a_longer_message_does_not_leave_its_end_behind(tmp_path: Path) -> None:
    termination.write(TerminationMessage(outcome="Crash", message="long " * 100), tmp_path / "message")
    termination.write(TerminationMessage(outcome="Preempted"), tmp_path / "message")

    read = termination.read(tmp_path / "message")
    assert read is not None
    assert read.outcome == "Preempted"


def test_a_place_that_cannot_be_written_is_only_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    termination.write(TerminationMessage(outcome="Succeeded"), tmp_path / "no" / "message")

    assert "no termination message" in caplog.text


def test_what_cannot_be_understood_is_no_message(tmp_path: Path) -> None:
    (tmp_path / "message").write_text("{half")

    assert termination.read(tmp_path / "message") is None
    assert termination.read(tmp_path / "nothing") is None


def test_an_unknown_error_says_where_it_happened() -> None:
    try:
        json.loads("{")
    except ValueError as error:
        message = termination.message_of(error, rank=2, step=5)

    assert message.outcome == "Crash"
    assert message.message.startswith("json.decoder.JSONDecodeError: Expecting property name")
    assert "(at decoder.py:" in message.message
    assert "test_termination.py:" in message.message
    assert (message.rank, message.step) == (2, 5)


def out_of_memory_on_the_cpu() -> BaseException:
    try:
        torch.empty(2**55)
    except RuntimeError as error:
        return error
    raise AssertionError("no machine has that much")


@pytest.mark.parametrize(
    ("error", "outcome", "code"),
    [
        (ConfigurationError("x"), "ConfigurationError", 2),
        (DataError("x"), "DataError", 3),
        (Preempted(4, "s3://x"), "Preempted", 75),
        (NotFoundError("x"), "ConfigurationError", 2),
        (AccessDeniedError("x"), "ConfigurationError", 2),
        (UnavailableError("x"), "Crash", 1),
        (MemoryError(), "OutOfMemory", 4),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"), "OutOfMemory", 4),
        (RuntimeError("CUDA error: out of memory"), "OutOfMemory", 4),
        (out_of_memory_on_the_cpu(), "OutOfMemory", 4),
        (ValueError("DefaultCPUAllocator: can't allocate memory"), "Crash", 1),
        (KeyboardInterrupt(), "Crash", 1),
    ],
)
def test_an_error_has_an_outcome_and_an_exit_code(error: BaseException, outcome: str, code: int) -> None:
    assert termination.message_of(error).outcome == outcome
    assert exit_code_of(error) == code


def test_a_storage_error_speaks_for_itself() -> None:
    with pytest.raises(NotFoundError) as caught, of_field("dataset.train.source"):
        raise NotFoundError("pvc://data/x.jsonl: there is nothing at /mnt/pvc/data/x.jsonl; check the path")
    assert termination.message_of(caught.value).message == (
        "dataset.train.source: pvc://data/x.jsonl: there is nothing at /mnt/pvc/data/x.jsonl; check the path"
    )


def raised(code: str) -> BaseException:
    try:
        exec(code)
    except Exception as error:
        return error
    raise AssertionError(f"raises nothing: {code}")


def test_the_exceptions_that_an_exception_followed_are_told_a_line_each() -> None:
    handling = "try:\n raise ConnectionError('(503)\\nSlow Down')\nexcept ConnectionError:\n {}['Body']"
    first, earlier = termination.message_of(raised(handling)).message.splitlines()
    assert first.startswith("KeyError: 'Body' (at ")
    assert earlier == "while handling: ConnectionError: (503) Slow Down"
    caused = "try:\n 1 / 0\nexcept Exception as e:\n raise KeyError('Body') from e"
    assert termination.message_of(raised(caused)).message.endswith("\ncaused by: ZeroDivisionError: division by zero")
    hidden = caused.replace("from e", "from None")
    assert "\n" not in termination.message_of(raised(hidden)).message
