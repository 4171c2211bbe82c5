"""A model that writes, as an ONNX graph with keys and values: it writes the same, a token at a time."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, DynamicCache

from exhaustive import exhaustive
from finetune_api.dataset import Columns
from finetune_api.manifest import verify_folder
from finetune_api.reports import TrainingResult
from finetune_api.trainer_config import TrainerConfig
from finetune_operator.plan.gates import TrainedModel, decide_gates
from finetune_serving.onnx_writer import OnnxWriter
from finetune_trainer.data.batches import Batch
from finetune_trainer.errors import ConfigurationError
from finetune_trainer.postprocess import onnx_writer_export
from finetune_trainer.tasks.text_generation import TextGeneration
from serving.in_process import serving
from trainer import tiny_models
from trainer.in_process import run
from trainer.jobs import FULL
from trainer.postprocess.test_chain import config, made

TASK = TextGeneration(Columns(), packing=False)
PROMPTS = ["question : one two", "question : seven"]


def batch(rows: int, length: int) -> Batch:
    ids = torch.randint(5, 60, (rows, length))
    places = torch.arange(rows * length)
    return Batch({"input_ids": ids, "attention_mask": torch.ones_like(ids)}, places, ids.flatten())


@pytest.fixture(scope="module")
def trained(
    tiny_llama: Path, questions: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, TrainerConfig, TrainingResult]:
    """With packed rows, which a graph could not tell apart: it is evaluated without."""
    root = tmp_path_factory.mktemp("writer")
    gate = [{"metric": "perplexity", "baseline": "Trained", "maxRegression": 0.001}]
    steps = [{"onnx": {"tolerance": 1e-4}, "gate": gate}]
    changes = {"task": "TextGeneration", "method": FULL, "maxSteps": 12, "dataset": {"split": {"test": 0.2}}}
    wanted = config(root, tiny_llama, questions, steps, packing=True, **changes)
    return root / "output", wanted, run(wanted, root)[0]


@pytest.fixture(scope="module")
def converted(trained: tuple[Path, TrainerConfig, TrainingResult]) -> tuple[Any, OnnxWriter]:
    output, _, _ = trained
    return AutoModelForCausalLM.from_pretrained(output).eval(), OnnxWriter(made(output, "onnx"))


def test_it_writes_the_same(converted: tuple[Any, OnnxWriter]) -> None:
    ids = batch(2, 5).inputs["input_ids"]
    wanted, found = (one.generate(input_ids=ids, max_new_tokens=12, do_sample=False) for one in converted)
    assert found.equal(wanted)


def test_padding_before_and_behind_is_not_seen(converted: tuple[Any, OnnxWriter]) -> None:
    model, writer = converted
    ids = batch(2, 6).inputs["input_ids"]
    mask = torch.tensor([[1, 1, 1, 1, 0, 0], [0, 0, 1, 1, 1, 1]])
    wanted, found = (one(input_ids=ids, attention_mask=mask).logits.detach() for one in (model, writer))
    assert found[mask.bool()].allclose(wanted[mask.bool()], atol=1e-4)


def test_several_tokens_follow_what_is_kept(converted: tuple[Any, OnnxWriter]) -> None:
    ids = batch(3, 8).inputs["input_ids"]
    model, writer = converted
    cache = DynamicCache()
    parts = [writer(input_ids=part, past_key_values=cache).logits for part in ids.split([3, 1, 4], dim=1)]
    assert torch.cat(parts, dim=1).allclose(model(input_ids=ids).logits.detach(), atol=1e-4)
    assert cache.get_seq_length() == 8


async def completions(folder: Path) -> list[str]:
    async with serving(folder, name="tiny") as server:
        found = []
        for prompt in PROMPTS:
            body = {"model": "tiny", "prompt": prompt, "temperature": 0, "max_tokens": 12}
            response = await server.client.post("/v1/completions", json=body)
            assert response.status_code == 200, response.text
            found.append(response.json()["choices"][0]["text"])
        return found


async def test_a_trained_writer_is_evaluated_gated_and_served(
    trained: tuple[Path, TrainerConfig, TrainingResult],
) -> None:
    output, wanted, result = trained
    (step,) = result.postprocess
    assert step.format == "Onnx"
    assert step.metrics == pytest.approx(result.metrics, abs=1e-4)
    (verdict,) = decide_gates(wanted.postprocess[0].gate, step.metrics, None, trained=TrainedModel(result.metrics))
    assert verdict.passed, verdict.message
    files = verify_folder(made(output, "onnx"), step.artifact_digest)["files"]
    assert {"model.onnx", "model.onnx.data"} <= set(files)
    assert "model.safetensors" not in files
    written = await completions(output)
    assert await completions(made(output, "onnx")) == written
    assert any(text.strip() for text in written)


def test_a_graph_beyond_the_tolerance_is_refused(
    trained: tuple[Path, TrainerConfig, TrainingResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, _, _ = trained
    other = AutoModelForCausalLM.from_pretrained(output).eval()
    torch.nn.init.normal_(other.lm_head.weight)
    monkeypatch.setattr(
        onnx_writer_export,
        "_write_graph",
        lambda *_: shutil.copytree(made(output, "onnx"), tmp_path, dirs_exist_ok=True),
    )
    with pytest.raises(ConfigurationError, match=r"logits differ by .* and tolerance allows 0\.001"):
        onnx_writer_export.to_onnx_writer(TASK, other, [batch(2, 5)], tmp_path, 1e-3)


@exhaustive
@pytest.mark.parametrize("make", [tiny_models.qwen, tiny_models.gpt2, tiny_models.deepseek])
def test_other_families_write_the_same(make: Callable[[Path], Path], tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(make(tmp_path / "model")).eval()
    (tmp_path / "onnx").mkdir()
    examples = [batch(3, 9), batch(1, 17)]
    assert onnx_writer_export.to_onnx_writer(TASK, model, examples, tmp_path / "onnx", 1e-4) < 1e-5
    test_it_writes_the_same((model, OnnxWriter(tmp_path / "onnx")))
