"""Models of every kind train in shards as on one process: detectors, convolutions, speech, mixtures of experts."""

from pathlib import Path

import pytest

from exhaustive import some_of
from finetune_api.method_support import refusal
from trainer.gangs import gang
from trainer.in_process import run
from trainer.parallel.task_runs import config_of, each_engine
from trainer.tasks.test_every_task import EVERY_CASE

pytestmark = pytest.mark.timeout(600)
ENGINES = ("fsdp", "zero-3")
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
def test_the_losses_are_those_of_one_process(name: str, tmp_path: Path) -> None:
    """A mixture's experts that no token of a rank goes to do not keep the others waiting."""
    case, method = EVERY_CASE[SHARDED[name][0]], SHARDED[name][1]
    places = case.model(tmp_path / "model"), case.data(tmp_path / "data")
    result, alone = run(config_of(case, method, None, tmp_path / "alone", places), tmp_path / "alone")
    found = gang(each_engine, case, method, ENGINES, tmp_path, places)[0]
    for engine in ENGINES:
        losses, metrics = found[engine]
        assert losses == pytest.approx(alone, rel=1e-3), engine
        assert metrics == pytest.approx(result.metrics, rel=1e-2), engine
