"""A wrong field hides no other error, and is blamed for no other."""

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from finetune_api.fine_tune_job import FineTuneJobSpec
from finetune_api.training_runtime import TrainingRuntimeSpec
from finetune_api.unknown import UNKNOWN, Undecidable, decidable, read

Resource = dict[str, Any]
EXAMPLES = sorted((Path(__file__).parents[2] / "examples").rglob("*.yaml"))
NEEDED = {
    "model": {"source": "s3://m"},
    "task": "TextClassification",
    "dataset": {"train": {"source": "s3://d"}},
    "method": {"lora": {}},
}


def errors_of(**spec: Any) -> list[str]:
    return read(FineTuneJobSpec, NEEDED | spec)[1]


def specs(file: Path) -> list[Resource]:
    return [one["spec"] for one in yaml.safe_load_all(file.read_text()) if one and one["kind"] == "FineTuneJob"]


def leaves(item: Any, path: str = "") -> Iterator[str]:
    """Paths of all values that are no models and no lists."""
    if isinstance(item, dict):
        for name, inner in item.items():
            yield from leaves(inner, f"{path}.{name}" if path else name)
    elif isinstance(item, list):
        for place, inner in enumerate(item):
            yield from leaves(inner, f"{path}[{place}]")
    else:
        yield path


def spoilt(spec: Resource, path: str) -> Resource:
    changed = deepcopy(spec)
    *parents, last = path.replace("[", ".[").split(".")
    inner: Any = changed
    for step in parents:
        inner = inner[int(step[1:-1])] if step.startswith("[") else inner[step]
    inner[int(last[1:-1]) if last.startswith("[") else last] = [{"of the wrong": "type"}]
    return changed


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_a_wrong_field_of_a_right_job_is_the_only_error(file: Path) -> None:
    for spec in specs(file):
        for path in leaves(spec):
            if "podTemplate." in path or "nvidia.com" in path:
                continue  # free of form, or a name with a dot
            found = read(FineTuneJobSpec, spoilt(spec, path))[1]
            assert found, path
            assert all(error.startswith(path) or path in error for error in found), (path, found)


def test_both_kinds_of_errors_are_told() -> None:
    found = errors_of(
        training={"epochs": "often", "packing": True, "batchSize": 7, "microBatchSize": 2}, deploy={"name": "x"}
    )
    assert found == [
        "training.epochs: input should be a valid number, unable to parse string as a number; got 'often'",
        "training: batchSize (7) must be a multiple of microBatchSize (2)",
        "training.batchSize (7) must be a multiple of distributed.nodes × distributed.processesPerNode × "
        "training.microBatchSize (1 × 2)",
        "deploy needs publish: set publish.modelName",
        "training.packing is for TextGeneration, not TextClassification; remove it",
    ]


@pytest.mark.parametrize(
    "wrong",
    [
        {"training": {"batchSize": "x"}, "distributed": {"nodes": 3}},
        {"task": "Cooking", "training": {"packing": True}},
        {"deploy": {"name": "x"}, "publish": "tickets"},
        {"method": {}, "training": {"optimizer": "Muon", "precision": "Float16"}},
        {"evaluation": {"gate": [{"metric": ["f1"], "operator": ">=", "value": 9}]}, "dataset": 3},
        {"training": "fast", "postprocess": [{"merge": {}, "prune": {"sparsity": 0.5}}]},
    ],
    ids=str,
)
def test_what_depends_on_a_wrong_field_is_not_decided(wrong: Resource) -> None:
    found = errors_of(**wrong)
    assert found
    assert not [error for error in found if "must be a multiple" in error or "packing" in error or "needs" in error]
    assert not [error for error in found if error.startswith(("method.", "evaluation.gate[0].value"))]


def test_other_resources_are_read_alike() -> None:
    runtime, found = read(TrainingRuntimeSpec, {"scheduler": 7, "checkpoint": {"storage": "s3://c", "keep": "all"}})
    assert [error.partition(":")[0] for error in found] == ["checkpoint.keep", "scheduler"]
    assert runtime.checkpoint is not None
    assert runtime.checkpoint.storage == "s3://c"
    with pytest.raises(Undecidable):
        bool(runtime.scheduler == "Kueue")


def test_the_unknown_tells_nothing_but_that_it_is_there() -> None:
    assert UNKNOWN is not None
    for look in (bool, str, repr, len, iter, hash, int, lambda it: it + 1, lambda it: 2 * it, lambda it: it.name):
        with pytest.raises(Undecidable):
            look(UNKNOWN)
    assert list(decidable(lambda: (f"{n}" for n in (1, UNKNOWN, 3)), lambda: ["still told"])) == ["1", "still told"]
