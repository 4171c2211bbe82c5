"""Models of every kind train in shards as they do whole: detectors, convolutions, speech, mixtures of experts."""

from pathlib import Path

import pytest

from exhaustive import some_of
from finetune_api.method_support import refusal
from trainer.gangs import gang
from trainer.parallel.task_runs import each_engine
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
    for method in ("full", "lora", "ia3")
    if method in ("full", *EVERY_CASE[name].methods) and not refusal(method, EVERY_CASE[name].task)
}


@pytest.mark.parametrize("name", some_of(SHARDED, ("text-generation-deepseek-full",)))
def test_shards_give_the_losses_of_whole_models(name: str, tmp_path: Path) -> None:
    """Of two processes each way, which draw the same for dropout and masks.

    Experts that no token of a rank goes to do not keep the others waiting (deepspeedai/DeepSpeed#7461).
    """
    task, method = SHARDED[name]
    places = EVERY_CASE[task].model(tmp_path / "model"), EVERY_CASE[task].data(tmp_path / "data")
    found = gang(each_engine, task, method, ENGINES, tmp_path, places)[0]
    losses, metrics = found["ddp"]
    assert len(losses) > 1
    for engine in ENGINES[1:]:
        assert found[engine][0] == pytest.approx(losses, rel=1e-3), engine
        assert found[engine][1] == pytest.approx(metrics, rel=1e-2), engine
