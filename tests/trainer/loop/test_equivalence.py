"""However a global batch is cut up, over micro-batches or processes, the losses are the same."""

from pathlib import Path
from typing import Any

import pytest

from trainer.in_process import run
from trainer.jobs import FULL, job, start

SETTINGS: dict[str, Any] = {
    "task": "TextGeneration",
    "method": FULL,
    "batchSize": 12,  # 40 examples: the last batch of an epoch has 4
    "epochs": 2,
    "learningRate": 1e-2,
    "warmup": 2,
    "scheduler": "Cosine",
    "weightDecay": 0.1,
    "labelSmoothing": 0.1,
    "dataset": {"split": {"validation": 0.1}},
}


def losses(root: Path, model: Path, data: Path, **changes: Any) -> tuple[dict[int, float], Any]:
    result, found = run(job(root, model, data, **{**SETTINGS, **changes}), root)
    return found, result


@pytest.fixture(scope="module")
def whole(tiny_llama: Path, questions: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Losses and result with one process and one forward pass a step."""
    return losses(tmp_path_factory.mktemp("whole"), tiny_llama, questions)


def test_it_learns(whole: Any) -> None:
    found, result = whole
    assert len(found) == 6
    assert found[6] < found[1] - 0.5
    assert result.metrics["perplexity"] < 100


def test_accumulation_gives_the_losses_of_the_whole_batch(
    whole: Any, tiny_llama: Path, questions: Path, tmp_path: Path
) -> None:
    cut, result = losses(tmp_path, tiny_llama, questions, microBatchSize=2)
    assert cut == pytest.approx(whole[0], rel=1e-4)
    assert result.metrics == pytest.approx(whole[1].metrics, rel=1e-4)


def test_two_processes_give_the_losses_of_one(whole: Any, tiny_llama: Path, questions: Path, tmp_path: Path) -> None:
    gang = start(job(tmp_path, tiny_llama, questions, **SETTINGS, microBatchSize=3), tmp_path, 2)
    assert gang.wait() == [0, 0]
    assert gang.losses == pytest.approx(whole[0], rel=1e-4)
    assert gang.result(0) == gang.result(1)
    assert gang.result()["metrics"] == pytest.approx(whole[1].metrics, rel=1e-4)


def test_packing_gives_the_losses_of_the_same_examples_unpacked(
    tiny_llama: Path, questions: Path, tmp_path: Path
) -> None:
    """With all rows in one batch both ways, the steps see the same examples."""
    one_batch = {"batchSize": 64, "maxSteps": 4, "epochs": None, "scheduler": "Constant"}
    plain, _ = losses(tmp_path / "a", tiny_llama, questions, **one_batch)
    packed, _ = losses(tmp_path / "b", tiny_llama, questions, packing=True, **one_batch)
    assert packed == pytest.approx(plain, rel=1e-4)


def test_gradient_checkpointing_changes_nothing(whole: Any, tiny_llama: Path, questions: Path, tmp_path: Path) -> None:
    recomputed, _ = losses(tmp_path, tiny_llama, questions, gradientCheckpointing=True)
    assert recomputed == pytest.approx(whole[0], rel=1e-5)


def test_bfloat16_keeps_float32_weights(whole: Any, tiny_llama: Path, questions: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    found, _ = losses(tmp_path, tiny_llama, questions, precision="BFloat16")
    assert found == pytest.approx(whole[0], rel=0.05)
    assert {t.dtype.itemsize for t in load_file(tmp_path / "output/model.safetensors").values()} == {4}
