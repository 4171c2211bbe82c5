"""`finetune-trainer` itself on a tiny real model: two workers, stopped, resumed, published."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from exhaustive import exhaustive
from finetune_api.manifest import digest_of, verify_folder
from finetune_api.reports import TerminationMessage
from trainer.jobs import job
from trainer.launch.pods import await_that

TRAINER = Path(sys.executable).with_name("finetune-trainer")


def start(root: Path, *program: str) -> "subprocess.Popen[str]":
    environment = {
        **os.environ,
        "PET_NNODES": "1",
        "PET_NPROC_PER_NODE": "2",
        "FINETUNE_TERMINATION_FILE": str(root / "termination"),
        "FINETUNE_SCRATCH": str(root / "scratch"),
        "FINETUNE_METRICS_PORT": "0",
        "OMP_NUM_THREADS": "1",
    }
    arguments = [*(program or [TRAINER]), "--config", root / "job.json"]
    with (root / "log").open("a") as log:
        return subprocess.Popen(arguments, env=environment, stderr=log, text=True)


def last_words(root: Path) -> TerminationMessage:
    return TerminationMessage.model_validate_json((root / "termination").read_bytes())


@exhaustive  # a job in local mode goes through the same, and that is tested each time
def test_stopped_resumed_and_published(tmp_path: Path, tiny_bert: Path, tickets: Path) -> None:
    split: dict[str, Any] = {"split": {"test": 0.2, "stratifyBy": "label"}}
    checkpoint = {"everySteps": 2, "keep": 2}
    config = job(tmp_path, tiny_bert, tickets, dataset=split, checkpoint=checkpoint, maxSteps=60)
    (tmp_path / "job.json").write_text(config.model_dump_json(by_alias=True, exclude_none=True))
    checkpoints = tmp_path / "checkpoints"

    first = start(tmp_path)
    await_that(lambda: first.poll() is not None or list(checkpoints.glob("step-*")), seconds=120)
    first.send_signal(signal.SIGTERM)

    assert first.wait(120) == 75, (tmp_path / "log").read_text()
    stopped = last_words(tmp_path)
    assert stopped.outcome == "Preempted"
    assert stopped.step is not None
    verify_folder(checkpoints / f"step-{stopped.step:08d}")

    second = start(tmp_path)

    assert second.wait(180) == 0, (tmp_path / "log").read_text()
    done = last_words(tmp_path)
    assert (done.outcome, done.step) == ("Succeeded", 60)
    assert f"resumed at step {stopped.step} of 60" in (tmp_path / "log").read_text()
    assert done.result is not None
    assert done.result.metrics["f1"] > 0
    artifact = tmp_path / "output"
    assert done.result.artifact_digest == digest_of((artifact / "manifest.json").read_bytes())
    verify_folder(artifact, done.result.artifact_digest)


HASTY = """
import sys
import finetune_trainer.launch.sample  # takes longer than the rest
from finetune_trainer import cli, heartbeat
heartbeat.OTHER_SECONDS = 3
cli.main()
"""


def test_a_preflight_whose_storage_never_answers_is_a_hang(tmp_path: Path, tiny_bert: Path) -> None:
    """No worker runs yet whose silence could tell. What is behind a pipe never comes."""
    os.mkfifo(tmp_path / "train.jsonl")
    config = job(tmp_path, tiny_bert, tmp_path / "train.jsonl")
    (tmp_path / "job.json").write_text(config.model_dump_json(by_alias=True, exclude_none=True))

    code = start(tmp_path, sys.executable, "-c", HASTY).wait(120)

    message = last_words(tmp_path)
    assert (code, message.outcome, message.rank) == (76, "Hang", 0), (tmp_path / "log").read_text()
    assert message.message.startswith("the preflight has not ended within 3 s: ")
    assert "check_data" in message.stacks[0].text
    assert message.preflight is not None
    assert (message.preflight.status, message.preflight.reason) == ("Unknown", "Hang")


def test_a_model_that_is_not_there_is_the_authors_to_mend(tmp_path: Path, tickets: Path) -> None:
    config = job(tmp_path, tmp_path / "no-model", tickets)
    body = json.loads(config.model_dump_json(by_alias=True, exclude_none=True))
    (tmp_path / "job.json").write_text(json.dumps(body))

    code = start(tmp_path).wait(120)

    message = last_words(tmp_path)
    assert (code, message.outcome) == (2, "ConfigurationError")
    assert f"file://{tmp_path}/no-model: there is nothing at {tmp_path}/no-model" in message.message


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
