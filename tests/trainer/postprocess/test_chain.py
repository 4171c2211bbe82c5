"""What is done to a model after training: every artifact is whole, evaluated as read back, and can be served."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from exhaustive import exhaustive
from finetune_api.artifact import ArtifactDescription
from finetune_api.dataset import Columns
from finetune_api.manifest import verify_folder
from finetune_api.reports import TrainingResult
from finetune_api.trainer_config import TrainerConfig
from serving.in_process import serving
from trainer import tiny_models
from trainer.in_process import run
from trainer.jobs import FULL, job

TEXTS = ["my card was charged twice one", "the parcel never came one two three", "cannot log in to the app"]
LABELS = ["billing", "delivery", "technical"]


def config(root: Path, model: Path, data: Path, steps: list[dict[str, Any]], **changes: Any) -> TrainerConfig:
    split = {"validation": 0.1, "test": 0.2, "stratifyBy": "label"}
    usual = {"dataset": {"split": split}, "maxSteps": 40, "learningRate": 1e-2}
    wanted = job(root, model, data, **{**usual, **changes})
    return TrainerConfig.model_validate({**wanted.wire(), "postprocess": steps})


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.bert(tmp_path_factory.mktemp("bert"), spread=0.2)


@pytest.fixture(scope="module")
def chain(model: Path, tickets: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrainingResult]:
    root = tmp_path_factory.mktemp("chain")
    steps = [{"merge": {}}, {"name": "sparse", "prune": {"pattern": "TwoOfFour"}}, {"name": "int8", "quantize": {}}]
    return root / "output", run(config(root, model, tickets, steps), root)[0]


@pytest.fixture(scope="module")
def converted(model: Path, tickets: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrainingResult]:
    root = tmp_path_factory.mktemp("onnx")
    steps = [{"onnx": {"tolerance": 1e-4}}]
    return root / "output", run(config(root, model, tickets, steps, method=FULL, learningRate=2e-3), root)[0]


def made(output: Path, step: str) -> Path:
    return output.with_name(f"{output.name}-{step}")


def report(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "evaluation.json").read_text())


def test_every_step_leaves_a_whole_artifact(chain: tuple[Path, TrainingResult]) -> None:
    output, result = chain
    assert [(step.name, step.format) for step in result.postprocess] == [
        ("merge", "Full"),
        ("sparse", "Full"),
        ("int8", "Quantized"),
    ]
    for step in result.postprocess:
        body = verify_folder(made(output, step.name), step.artifact_digest)
        assert {"config.json", "model.safetensors", "tokenizer.json", "README.md", "evaluation.json"} <= set(
            body["files"]
        )
        about = ArtifactDescription.model_validate_json((made(output, step.name) / "finetune.json").read_text())
        assert (about.format, about.labels, about.base_model) == (step.format, LABELS, None)
        assert report(made(output, step.name))["metrics"] == pytest.approx(step.metrics, abs=1e-6)
        assert report(made(output, step.name))["trainedMetrics"] == result.metrics


def test_a_merged_model_answers_as_the_adapter_on_its_base(chain: tuple[Path, TrainingResult]) -> None:
    _, result = chain
    assert result.metrics["accuracy"] > 0.8
    assert result.postprocess[0].metrics == pytest.approx(result.metrics, abs=1e-5)


def test_two_of_each_four_weights_are_zero_but_for_the_head(chain: tuple[Path, TrainingResult]) -> None:
    from transformers import AutoModelForSequenceClassification

    output, _ = chain
    pruned = AutoModelForSequenceClassification.from_pretrained(made(output, "sparse"))
    whole = AutoModelForSequenceClassification.from_pretrained(made(output, "merge"))
    weight = pruned.bert.encoder.layer[0].output.dense.weight
    assert ((weight.view(-1, 4) == 0).sum(dim=1) == 2).all()
    kept = weight != 0
    assert weight[kept].equal(whole.bert.encoder.layer[0].output.dense.weight[kept])
    assert pruned.classifier.weight.equal(whole.classifier.weight)


def test_a_quantized_model_is_smaller(chain: tuple[Path, TrainingResult]) -> None:
    output, _ = chain
    found = report(made(output, "int8"))
    assert found["modelBytes"] < found["modelBytesBefore"]
    assert "12 linear layers" not in (made(output, "merge") / "README.md").read_text()
    card = (made(output, "int8") / "README.md").read_text()
    assert [line[:2] for line in card.split("## After training")[1].splitlines() if line[:1].isdigit()] == [
        "1.",
        "2.",
        "3.",
    ]


async def answers(folder: Path) -> torch.Tensor:
    tensor = {"name": "text", "shape": [len(TEXTS)], "datatype": "BYTES", "data": TEXTS}
    async with serving(folder, name="tickets") as server:
        response = await server.client.post("/v2/models/tickets/infer", json={"inputs": [tensor]})
    label, scores = response.json()["outputs"]
    assert label["data"] == LABELS
    return torch.tensor(scores["data"]).view(len(TEXTS), -1)


async def test_the_server_answers_with_what_each_step_made(chain: tuple[Path, TrainingResult]) -> None:
    output, _ = chain
    trained, merged = await answers(output), await answers(made(output, "merge"))
    assert merged.allclose(trained, atol=1e-5)
    assert not (await answers(made(output, "int8"))).allclose(merged, atol=1e-6)


async def test_the_server_runs_onnx(converted: tuple[Path, TrainingResult]) -> None:
    output, result = converted
    (step,) = result.postprocess
    assert step.format == "Onnx"
    assert step.metrics == pytest.approx(result.metrics, abs=1e-5)
    files = verify_folder(made(output, "onnx"), step.artifact_digest)["files"]
    assert "model.onnx" in files
    assert "model.safetensors" not in files
    assert (await answers(made(output, "onnx"))).allclose(await answers(output), atol=1e-5)


@exhaustive
def test_a_4_bit_base_is_widened_before_the_merge(model: Path, tickets: Path, tmp_path: Path) -> None:
    """Merging into 4 bits would round every weight a second time, and answer otherwise than was evaluated."""
    steps = [{"merge": {}}]
    result = run(config(tmp_path, model, tickets, steps, method={"qlora": {"rank": 4}}), tmp_path)[0]
    assert result.postprocess[0].metrics == pytest.approx(result.metrics, abs=1e-4)
    assert "quantization_config" not in json.loads((tmp_path / "output-merge" / "config.json").read_text())


def test_a_model_without_linear_layers_is_refused_before_it_is_trained(
    tiny_gpt2: Path, questions: Path, tmp_path: Path
) -> None:
    from finetune_trainer.errors import ConfigurationError

    wanted = job(tmp_path, tiny_gpt2, questions, task="TextGeneration", method=FULL, maxSteps=2)
    wanted = TrainerConfig.model_validate({**wanted.wire(), "postprocess": [{"quantize": {}}]})
    with pytest.raises(ConfigurationError, match=r"postprocess\[0\].quantize: a model of the type 'gpt2'"):
        run(wanted, tmp_path)
    assert not (tmp_path / "checkpoints").exists()


def test_a_conversion_beyond_the_tolerance_is_refused(
    converted: tuple[Path, TrainingResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoModelForSequenceClassification

    from finetune_trainer.data.batches import Batch
    from finetune_trainer.errors import ConfigurationError
    from finetune_trainer.postprocess import onnx_export
    from finetune_trainer.tasks.text_classification import TextClassification

    output, _ = converted
    other = AutoModelForSequenceClassification.from_pretrained(output)
    torch.nn.init.normal_(other.classifier.weight)
    ids = torch.arange(8).view(2, 4)
    batch = Batch({"input_ids": ids, "attention_mask": torch.ones_like(ids)}, torch.arange(2), torch.arange(2))
    monkeypatch.setattr(
        onnx_export, "_write_graph", lambda *_: shutil.copytree(made(output, "onnx"), tmp_path / "onnx")
    )
    with pytest.raises(ConfigurationError, match=r"logits differ by .* and tolerance allows 0\.001"):
        onnx_export.to_onnx(TextClassification(Columns()), other, [batch], tmp_path / "onnx", tolerance=1e-3)
