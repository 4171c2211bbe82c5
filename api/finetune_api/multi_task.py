"""What several tasks that share one encoder ask of a job."""

from collections.abc import Iterator

from finetune_api.base import rule
from finetune_api.dataset import DataParts, Dataset
from finetune_api.metrics import Task
from finetune_api.model_reference import ModelReference

MULTI_TASK: Task = "MultiTask"
BELONG_TOGETHER = "task MultiTask wants dataset.subtasks, and every other task dataset.train"
OWN_CODE = (
    "model.trustRemoteCode: the heads of MultiTask fit the encoders that transformers has, not one with code of its "
    "own; set it to false"
)
OF_SUBTASKS = tuple(DataParts.model_fields)
"""Fields of `dataset` that MultiTask has in each subtask; all are single words."""


def multi_task_problems(task: Task, dataset: Dataset, model: ModelReference) -> Iterator[str]:
    """Why the subtasks cannot be learnt together, each with the field and the mend."""
    if task != MULTI_TASK:
        yield from _elsewhere(task, dataset)
        return
    if model.trust_remote_code:
        yield OWN_CODE
    if not dataset.subtasks:
        yield "dataset.subtasks: required for MultiTask; name two or more, each with its task and data"
        return
    yield from _set_for_all(dataset)
    yield from _subtask_problems(dataset)
    yield from _mixing_problems(dataset)


def subtask_kinds(dataset: Dataset) -> dict[str, str]:
    """The task of each subtask, by name; {} where there are none."""
    return {subtask.name: subtask.task for subtask in dataset.subtasks or ()}


def subtask_rules() -> list[dict[str, str]]:
    """The same as CEL rules of a FineTuneJob's spec."""
    return [rule(f"(self.task == '{MULTI_TASK}') == has(self.dataset.subtasks)", BELONG_TOGETHER)]


def _elsewhere(task: Task, dataset: Dataset) -> Iterator[str]:
    if dataset.train is None:
        yield f"dataset.train: required for {task}"
    if dataset.subtasks is not None:
        yield f"dataset.subtasks is for MultiTask, not {task}; remove it, or set task to MultiTask"
    if dataset.mixing_temperature is not None:
        yield f"dataset.mixingTemperature is for MultiTask, not {task}; remove it"


def _set_for_all(dataset: Dataset) -> Iterator[str]:
    if dataset.train is not None:
        yield "dataset.train: MultiTask has data for each subtask; move it to dataset.subtasks[].train"
    given, defaults = dataset.wire(), Dataset().wire()
    for field in OF_SUBTASKS:
        if given.get(field) != defaults.get(field):
            yield f"dataset.{field}: MultiTask has data for each subtask; move it to dataset.subtasks[].{field}"


def _subtask_problems(dataset: Dataset) -> Iterator[str]:
    first, *_ = subtasks = dataset.subtasks or []
    names: set[str] = set()
    for place, subtask in enumerate(subtasks):
        path = f"dataset.subtasks[{place}]"
        if subtask.name in names:
            yield f"{path}.name: there are two subtasks {subtask.name!r}; name one of them otherwise"
        names.add(subtask.name)
        for problem in dataset.of(subtask).problems_with(subtask.task):
            yield problem.replace("dataset.", f"{path}.", 1)
        for part, (own, others) in {
            "validation": (subtask.has_validation, first.has_validation),
            "test": (subtask.has_test, first.has_test),
        }.items():
            if own != others:
                held = "holds out" if own else "holds out no"
                yield (
                    f"{path}: {held} {part} data, unlike dataset.subtasks[0]; all subtasks are evaluated together, so "
                    f"give {part} or split.{part} to all or to none"
                )


def _mixing_problems(dataset: Dataset) -> Iterator[str]:
    subtasks = dataset.subtasks or []
    weighted = [subtask.weight is not None for subtask in subtasks]
    if any(weighted) and not all(weighted):
        yield (
            f"dataset.subtasks[{weighted.index(False)}].weight: other subtasks have a weight, which is relative to "
            "those of all; set it for each or for none"
        )
    if any(weighted) and dataset.mixing_temperature is not None:
        yield "dataset.mixingTemperature: the weights of the subtasks settle their shares; remove one or the other"
