"""A job's sources are opened as what they are."""

import os
import subprocess
import sys
from pathlib import Path

from trainer.storage.hub_server import HubServer

PROGRAM = """
import sys
from pathlib import Path
from finetune_api.model_reference import ModelReference
from finetune_trainer.progress import Reporter
from finetune_trainer.run import Run
from finetune_trainer.sources import fetch_data, fetch_model
from finetune_trainer.stop import StopSignal
run = Run(scratch=Path(sys.argv[1]), reporter=Reporter.silent(), stop=StopSignal())
print((fetch_data("hf://acme/tickets", run) / "train.jsonl").read_text())
print((fetch_model(ModelReference(source="hf://acme/tickets"), run) / "config.json").read_text())
"""


def test_data_of_the_hub_is_a_dataset_and_a_model_is_a_model(tmp_path: Path) -> None:
    repositories = {
        "models/acme/tickets": {"config.json": b"a model", "model.safetensors": b""},
        "datasets/acme/tickets": {"train.jsonl": b"a dataset"},
    }
    with HubServer(repositories) as hub:
        settings = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1"}
        command = [sys.executable, "-c", PROGRAM, str(tmp_path / "scratch")]
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **settings})
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["a dataset", "a model"]
