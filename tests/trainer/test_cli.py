"""The command of every training pod, refused."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from finetune_api.reports import TerminationMessage

TRAINER = Path(sys.executable).with_name("finetune-trainer")


def job() -> dict[str, Any]:
    return {
        "job": {"namespace": "ml", "name": "tickets", "uid": "u-1"},
        "model": {"source": "file:///model"},
        "task": "TextClassification",
        "dataset": {"train": {"source": "file:///train.jsonl"}},
        "method": {"lora": {}},
        "training": {"maxSteps": 3},
        "checkpoint": {"storage": "file:///checkpoints"},
        "output": "file:///output",
    }


def run(folder: Path, text: str, **environment: str) -> tuple[int, str, TerminationMessage]:
    (folder / "job.json").write_text(text)
    termination = folder / "termination"
    done = subprocess.run(
        [TRAINER, "--config", folder / "job.json"],
        capture_output=True,
        text=True,
        env={"FINETUNE_TERMINATION_FILE": str(termination), "PATH": "/usr/bin:/bin", **environment},
    )
    return done.returncode, done.stderr, TerminationMessage.model_validate_json(termination.read_bytes())


def test_every_wrong_field_is_named_with_its_value(tmp_path: Path) -> None:
    body = job()
    body["training"] = {"maxSteps": -1, "learningRate": "fast", "epochz": 3}
    body["task"] = "MindReading"
    del body["output"]

    code, log, message = run(tmp_path, json.dumps(body))

    assert code == 2
    assert message.outcome == "ConfigurationError"
    for line in (
        "task: input should be 'TextClassification',",
        "training.maxSteps: input should be greater than or equal to 1; got -1",
        "training.learningRate: input should be a valid number, unable to parse string as a number; got 'fast'",
        "job.json: is the operator that wrote it newer than this image of the trainer? Use images of one version:",
        "training.epochz: unknown field; did you mean epochs?",
        "output: required",
    ):
        assert line in log
        assert line in message.message


@pytest.mark.parametrize(
    ("text", "expected"),
    [("{", "not JSON"), ("[]", "must be an object"), ("\x00", "not JSON")],
)
def test_a_file_that_is_no_job_is_refused(tmp_path: Path, text: str, expected: str) -> None:
    code, log, message = run(tmp_path, text)

    assert code == 2
    assert expected in log.lower() or expected in log
    assert message.outcome == "ConfigurationError"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    done = subprocess.run(
        [TRAINER, "--config", tmp_path / "nothing.json"],
        capture_output=True,
        text=True,
        env={"FINETUNE_TERMINATION_FILE": str(tmp_path / "termination"), "PATH": "/usr/bin:/bin"},
    )

    assert done.returncode == 2
    assert f"{tmp_path}/nothing.json: cannot be read" in done.stderr


def test_a_wrong_variable_of_the_gang_is_refused_before_anything_starts(tmp_path: Path) -> None:
    code, log, message = run(tmp_path, json.dumps(job()), PET_NNODES="many")

    assert code == 2
    assert "PET_NNODES: expected a number of at least 1; got 'many'" in log
    assert message.outcome == "ConfigurationError"


def test_a_wrong_patience_is_refused_before_anything_starts(tmp_path: Path) -> None:
    code, log, _ = run(tmp_path, json.dumps(job()), PET_NNODES="1", FINETUNE_STOP_GRACE_SECONDS="soon")

    assert code == 2
    assert "FINETUNE_STOP_GRACE_SECONDS: expected a positive number of seconds; got 'soon'" in log
