"""Models of every kind train in shards as they do whole: detectors, convolutions, speech, mixtures of experts."""

from pathlib import Path

import pytest

from exhaustive import some_of
from finetune_trainer.ranks import Ranks
from trainer.gangs import gang
from trainer.parallel.task_runs import each_engine, made_from_data
from trainer.tasks.test_every_task import EVERY_CASE

pytestmark = pytest.mark.timeout(600)
ENGINES = ("ddp", "fsdp", "zero-3")
SHARDED = {
    f"{name}-{method}": (name, method)
    for name in (
        "object-detection-yolos",
        "object-detection-detr",
        "audio-classification-wav2vec2",
        "audio-classification-ast",
        "image-classification-vit",
        "image-classification-resnet",
        "text-generation-deepseek",
    )
    for method in ("full", "lora")  # test_methods has the other adapters, on one model
}

DETECTORS = ("object-detection-yolos", "object-detection-detr")
REPLICATING = ("ddp", "zero-1", "zero-2-offload")
REPLICATED = {f"{name}-{method}": (name, method) for name in DETECTORS for method in ("full", "lora")}
"""Models of which every process holds all weights, and not all the optimizer's state or the gradients."""
WHOLE = ("recommendation-ratings", "recommendation-uses")
"""What is refused in parts."""


@pytest.mark.parametrize("name", some_of(SHARDED, ("text-generation-deepseek-full",)))
def test_shards_give_the_losses_of_whole_models(name: str, tmp_path: Path) -> None:
    """Of two processes each way, which draw the same for dropout and masks.

    Experts that no token of a rank goes to do not keep the others waiting (deepspeedai/DeepSpeed#7461).
    """
    compare(*SHARDED[name], ENGINES, tmp_path)


@pytest.mark.parametrize("name", some_of(REPLICATED, ()))
def test_states_in_parts_give_the_losses_of_whole_ones(name: str, tmp_path: Path) -> None:
    compare(*REPLICATED[name], REPLICATING, tmp_path)


@pytest.mark.parametrize("name", some_of({name: name for name in WHOLE}, ()))
def test_two_processes_learn_what_one_does(name: str, tmp_path: Path) -> None:
    places = EVERY_CASE[name].model(tmp_path / "model"), EVERY_CASE[name].data(tmp_path / "data")
    alone = each_engine(Ranks(), name, "full", ("ddp",), tmp_path / "alone", places)["ddp"]
    found = gang(each_engine, name, "full", ("ddp",), tmp_path / "two", places)[0]["ddp"]
    assert found[0] == pytest.approx(alone[0], rel=1e-3)
    assert found[1] == pytest.approx(alone[1], rel=1e-2)


def compare(task: str, method: str, engines: tuple[str, ...], root: Path) -> None:
    """Of each engine with the first."""
    places = EVERY_CASE[task].model(root / "model"), EVERY_CASE[task].data(root / "data")
    found = gang(each_engine, task, method, engines, root, places)[0]
    losses, metrics = found[engines[0]]
    assert len(losses) > 1
    for engine in engines[1:]:
        assert found[engine][0] == pytest.approx(losses, rel=1e-3), engine
        assert found[engine][1] == pytest.approx(metrics, rel=1e-2), engine


def test_every_node_makes_the_same_model_from_the_data(tmp_path: Path) -> None:
    """In a group too, which Ray makes before the trainer begins: transformers would save on rank 0 alone."""
    name = "recommendation-uses"
    data = EVERY_CASE[name].data(tmp_path / "data")
    first, second = gang(made_from_data, name, tmp_path, (data, data))
    assert {"config.json", "model.safetensors"} <= first.keys()
    assert first == second
