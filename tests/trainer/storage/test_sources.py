"""A job's sources are opened as what they are."""

import os
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

from finetune_storage import open_storage
from finetune_storage.model_files import model_patterns
from trainer.storage.hub_server import COMMIT, HubServer

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

PIN = """
import sys
from pathlib import Path
from finetune_api.model_reference import ModelReference
from finetune_trainer.checkpoint.pinned_model import pin_model
from finetune_trainer.progress import Reporter
from finetune_trainer.run import Run
from finetune_trainer.stop import StopSignal
run = Run(scratch=Path(sys.argv[1]), reporter=Reporter.silent(), stop=StopSignal())
model = ModelReference(source="hf://acme/tickets", revision=sys.argv[3] or None)
print(pin_model(model, f"file://{sys.argv[2]}", run).revision)
"""
TEACHER = """
import sys
from pathlib import Path
from finetune_trainer.checkpoint.pinned_model import pin_teacher
from finetune_trainer.run import Run
from finetune_trainer.sources import fetch_teacher
run = Run(scratch=Path(sys.argv[1]))
commit = pin_teacher("hf://acme/tickets", f"file://{sys.argv[2]}", run)
assert (fetch_teacher("hf://acme/tickets", run, commit) / "config.json").exists()
print(commit)
"""
REWARDS = """
import sys
from pathlib import Path
from finetune_api.trainer_config import TrainerConfig
from finetune_trainer.reinforcement.reward_models import fetch_reward_models
from finetune_trainer.run import Run
rewards = [{"length": {"tokens": 2}}, *({"model": {"source": f"hf://acme/{name}"}} for name in ("tickets", "letters"))]
config = TrainerConfig.model_validate({
    "job": {"namespace": "ml", "name": "a", "uid": "1"},
    "model": {"source": "hf://acme/tickets"},
    "task": "ReinforcementLearning",
    "dataset": {"train": {"source": "file:///data.jsonl"}},
    "method": {"lora": {}},
    "training": {"reinforcement": {"rewards": rewards}},
    "checkpoint": {"storage": f"file://{sys.argv[2]}"},
    "output": "file:///output",
})
models = fetch_reward_models(config, Run(scratch=Path(sys.argv[1])))
assert [(Path(model.uri) / "config.json").read_text() for model in models.values()] == ["{}", "letters"]
[kept] = Path(sys.argv[2]).rglob("*reward-model-commit-1*")
print(kept.read_text())
"""
MODEL = {"models/acme/tickets": {"config.json": b"{}", "model.safetensors": b""}}


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


def test_every_attempt_starts_from_the_commit_that_the_first_one_found(tmp_path: Path) -> None:
    with HubServer(MODEL) as hub:
        first = commit_on_a_new_node(hub, tmp_path)
        hub.commit = "b" * 40  # somebody pushes
        hub.revisions.add(hub.commit)
        assert commit_on_a_new_node(hub, tmp_path) == first == COMMIT


def test_every_attempt_learns_from_the_commit_of_the_teacher_that_the_first_one_found(tmp_path: Path) -> None:
    with HubServer(MODEL) as hub:
        first = commit_on_a_new_node(hub, tmp_path, program=TEACHER)
        hub.commit = "b" * 40
        hub.revisions.add(hub.commit)
        assert commit_on_a_new_node(hub, tmp_path, program=TEACHER) == first == COMMIT
        assert commit_on_a_new_node(hub, tmp_path) == hub.commit, "the base model is pinned for itself"


def test_reward_models_have_folders_and_commits_of_their_own(tmp_path: Path) -> None:
    with HubServer({**MODEL, "models/acme/letters": {"config.json": b"letters"}}) as hub:
        first = commit_on_a_new_node(hub, tmp_path, program=REWARDS)
        hub.commit = "b" * 40
        hub.revisions.add(hub.commit)
        assert commit_on_a_new_node(hub, tmp_path, program=REWARDS) == first == COMMIT


def test_another_revision_than_the_kept_one_is_looked_up(tmp_path: Path) -> None:
    with HubServer(MODEL) as hub:
        commit_on_a_new_node(hub, tmp_path)
        hub.commit = "b" * 40
        hub.revisions.add(hub.commit)
        assert commit_on_a_new_node(hub, tmp_path, "v1") == "b" * 40


def commit_on_a_new_node(hub: HubServer, job: Path, revision: str = "", program: str = PIN) -> str:
    node = job / f"node-{len(list(job.glob('node-*')))}"
    settings = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(node / "home"), "HF_HUB_DISABLE_XET": "1"}
    command = [sys.executable, "-c", program, str(node), str(job / "checkpoints"), revision]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **settings})
    assert done.returncode == 0, done.stderr
    return done.stdout.split()[-1]


def test_weights_of_another_framework_are_left_where_they_are(tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors", "pytorch_model.bin", "tf_model.h5", "modeling.py", "a.tiktoken"):
        (tmp_path / name).touch()
    storage = open_storage(f"file://{tmp_path}")
    assert chosen(tmp_path, model_patterns(storage, trust_remote_code=False)) == {
        "config.json",
        "model.safetensors",
        "a.tiktoken",
    }
    (tmp_path / "model.safetensors").unlink()
    assert chosen(tmp_path, model_patterns(storage, trust_remote_code=True)) == {
        "config.json",
        "pytorch_model.bin",
        "modeling.py",
        "a.tiktoken",
    }


def chosen(folder: Path, patterns: list[str]) -> set[str]:
    return {path.name for path in folder.iterdir() if any(fnmatch(path.name, pattern) for pattern in patterns)}
