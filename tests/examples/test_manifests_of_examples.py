"""Every manifest under examples/ is one that the operator would accept."""

import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel

from examples.tasks import make_data
from finetune_api import ClusterTrainingRuntime, FineTuneJob, ModelDeployment, ModelVersion, TrainingRuntime
from finetune_api.distributed import Distributed
from finetune_api.fine_tune_job import FineTuneJobSpec
from finetune_api.method import METHODS
from finetune_api.metrics import TASKS
from finetune_api.names import API_VERSION
from finetune_api.preference import Preference
from finetune_api.reinforcement import Reinforcement
from finetune_api.training import Training

EXAMPLES = Path(__file__).parents[2] / "examples"
MODELS: dict[str, type[BaseModel]] = {
    model.__name__: model
    for model in (FineTuneJob, TrainingRuntime, ClusterTrainingRuntime, ModelVersion, ModelDeployment)
}


def documents(path: Path) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all(path.read_text(encoding="utf-8")) if document]


def quickstart() -> FineTuneJob:
    return FineTuneJob.model_validate(documents(EXAMPLES / "quickstart.yaml")[0])


@pytest.mark.parametrize("path", sorted(EXAMPLES.rglob("*.yaml")), ids=lambda path: str(path.relative_to(EXAMPLES)))
def test_an_example_is_valid(path: Path) -> None:
    ours = [document for document in documents(path) if document["apiVersion"] == API_VERSION]
    assert ours, f"{path} holds nothing of {API_VERSION}"
    for document in ours:
        MODELS[document["kind"]].model_validate(document)


def test_whole_manifests_in_the_documentation_are_valid() -> None:
    root = EXAMPLES.parent
    blocks = [
        (page.name, document)
        for page in [root / "README.md", *root.glob("docs/*.md")]
        for block in re.findall(r"```yaml\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
        for document in yaml.safe_load_all(block)
        if document.get("apiVersion") == API_VERSION
    ]
    assert {"README.md", "first-job.md", "scheduling.md"} <= {page for page, _ in blocks}
    for _, document in blocks:
        MODELS[document["kind"]].model_validate(document)


def test_examples_can_be_applied_to_one_namespace() -> None:
    """No two are one job, and a model keeps what it answers with."""
    jobs = [FineTuneJob.model_validate(documents(path)[0]) for path in EXAMPLES.rglob("*.yaml")]
    assert not [name for name, count in Counter(job.metadata.name for job in jobs).items() if count > 1]
    answers_of: dict[str, set[str]] = {}
    for job in jobs:
        if job.spec.publish:
            writes = job.spec.task in ("PreferenceOptimization", "ReinforcementLearning")
            task = "TextGeneration" if writes else job.spec.task
            answers_of.setdefault(job.spec.publish.model_name, set()).add(task)
    assert not {model: tasks for model, tasks in answers_of.items() if len(tasks) > 1}


def test_detection_names_the_annotations_that_are_made_to_try_it(tmp_path: Path) -> None:
    dataset = FineTuneJob.model_validate(documents(EXAMPLES / "tasks" / "object-detection.yaml")[0]).spec.dataset
    made = make_data.KINDS["scenes"](tmp_path)
    seen = []
    for part in (dataset.train, dataset.validation):
        assert part
        assert part.annotations
        seen.append({image["id"] for image in json.loads((made / part.annotations).read_text())["images"]})
    assert len(seen[0]) > len(seen[1]) > 0
    assert not seen[0] & seen[1]


def test_the_quickstart_reads_the_columns_of_its_data() -> None:
    dataset = quickstart().spec.dataset
    for source in (dataset.train, dataset.test):
        assert source is not None
        path = EXAMPLES / "quickstart" / source.source.removeprefix("pvc://quickstart/")
        first = yaml.safe_load(path.read_text(encoding="utf-8").splitlines()[0])
        assert {dataset.columns.text, dataset.columns.label} == set(first)


def test_the_quickstart_trains_on_two_nodes_and_ends_in_a_deployment() -> None:
    spec = quickstart().spec
    assert spec.distributed.world_size == 2
    assert spec.evaluation.gate
    assert spec.publish
    assert spec.deploy


def test_every_method_has_an_example() -> None:
    jobs = [FineTuneJob.model_validate(documents(path)[0]) for path in (EXAMPLES / "methods").glob("*.yaml")]
    assert {job.spec.method.name for job in jobs} == set(METHODS)
    variants = {(lora.rslora, lora.dora, lora.init) for job in jobs if (lora := job.spec.method.lora)}
    assert {(True, False, "Default"), (False, True, "Default"), (False, False, "PiSSA")} <= variants


def test_every_task_has_an_example() -> None:
    jobs = [FineTuneJob.model_validate(documents(path)[0]) for path in EXAMPLES.rglob("*.yaml")]
    assert {job.spec.task for job in jobs} == set(TASKS)


CHOICES: dict[str, Callable[[FineTuneJobSpec], Any]] = {
    "Training.optimizer": lambda spec: spec.training.optimizer,
    "Training.scheduler": lambda spec: spec.training.scheduler,
    "Training.precision": lambda spec: spec.training.precision,
    "Preference.loss": lambda spec: spec.training.preference and spec.training.preference.loss,
    "Reinforcement.algorithm": lambda spec: spec.training.reinforcement and spec.training.reinforcement.algorithm,
}


@pytest.mark.parametrize("field", CHOICES)
def test_every_choice_has_an_example(field: str) -> None:
    jobs = [FineTuneJob.model_validate(documents(path)[0]) for path in EXAMPLES.rglob("*.yaml")]
    model, _, name = field.partition(".")
    choices = {"Training": Training, "Preference": Preference, "Reinforcement": Reinforcement}[model]
    allowed = set(get_args(choices.model_fields[name].annotation))
    assert {chosen for job in jobs if (chosen := CHOICES[field](job.spec))} == allowed


def test_every_engine_has_an_example() -> None:
    jobs = [FineTuneJob.model_validate(documents(path)[0]) for path in (EXAMPLES / "engines").glob("*.yaml")]
    assert {job.spec.distributed.engine for job in jobs} == set(get_args(Distributed.model_fields["engine"].annotation))
    assert any(job.spec.distributed.fsdp for job in jobs)
