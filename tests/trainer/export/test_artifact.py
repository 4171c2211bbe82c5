"""The artifact: complete, verified, and the same model when it is read again."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from finetune_api.artifact import ArtifactDescription
from finetune_api.manifest import verify_folder
from finetune_trainer.checkpoint.backend import FENCE, encode_fence
from finetune_trainer.errors import Superseded
from finetune_trainer.export.publish import upload_artifact
from trainer.in_process import run
from trainer.jobs import FULL, LORA, job


@pytest.fixture(scope="module", params=["full", "lora"])
def finished(
    request: pytest.FixtureRequest, tiny_bert: Path, tickets: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path, Any]:
    root = tmp_path_factory.mktemp(request.param)
    method = FULL if request.param == "full" else LORA
    split = {"validation": 0.1, "test": 0.2, "stratifyBy": "label"}
    config = job(root, tiny_bert, tickets, method=method, dataset={"split": split}, epochs=8, learningRate=1e-2)
    return request.param, root / "output", run(config, root)[0]


def test_every_file_is_in_the_manifest_and_the_digest_is_its_own(finished: tuple[str, Path, Any]) -> None:
    kind, output, result = finished
    body = verify_folder(output, result.artifact_digest)
    files = {f.relative_to(output).as_posix() for f in output.rglob("*") if f.is_file()} - {"manifest.json"}
    assert set(body["files"]) == files
    weights = (
        {"model.safetensors", "config.json"} if kind == "full" else {"adapter_model.safetensors", "adapter_config.json"}
    )
    reports = {"evaluation.json", "data_report.json", "training_history.json", "README.md", "plots/loss.png"}
    assert weights | reports | {"finetune.json", "tokenizer.json", "plots/confusion_matrix.png"} <= files
    assert result.format == ("Full" if kind == "full" else "Adapter")


def test_it_describes_itself(finished: tuple[str, Path, Any], tiny_bert: Path) -> None:
    kind, output, _ = finished
    about = ArtifactDescription.model_validate_json((output / "finetune.json").read_text())
    assert about.labels == ["billing", "delivery", "technical"]
    assert about.max_length == 64
    assert about.positions == 64
    assert (about.base_model is not None) == (kind == "lora")
    if about.base_model:
        assert about.base_model.source == f"file://{tiny_bert}"


def test_the_evaluation_shows_what_training_brought(finished: tuple[str, Path, Any]) -> None:
    _, output, result = finished
    report = json.loads((output / "evaluation.json").read_text())
    assert report["evaluatedOn"] == result.evaluated_on == "test"
    assert report["metrics"] == result.metrics
    assert report["metrics"]["accuracy"] > report["baselineMetrics"]["accuracy"]
    matrix = report["confusionMatrix"]
    assert sum(map(sum, matrix)) == report["examples"] == 18
    assert sum(matrix[i][i] for i in range(3)) / 18 == pytest.approx(result.metrics["accuracy"])
    parts = json.loads((output / "data_report.json").read_text())["parts"]
    assert sum(part["kept"] for part in parts.values()) == 90


def test_the_card_tells_what_the_evaluation_found(finished: tuple[str, Path, Any]) -> None:
    _, output, result = finished
    card = (output / "README.md").read_text()
    assert f"| accuracy | {result.metrics['accuracy']:.4f} |" in card
    assert result.dataset_fingerprint in card
    history = json.loads((output / "training_history.json").read_text())
    assert [point["step"] for point in history["validation"]] == [8 * n for n in range(1, 9)]


def test_a_model_read_back_predicts_what_the_evaluation_says(
    finished: tuple[str, Path, Any], tiny_bert: Path, tickets: Path
) -> None:
    """Loaded as any user would, with transformers and PEFT alone."""
    from peft import AutoPeftModelForSequenceClassification
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    kind, output, result = finished
    if kind == "full":
        model = AutoModelForSequenceClassification.from_pretrained(output)
        assert model.config.id2label[2] == "technical"
    else:
        model = AutoPeftModelForSequenceClassification.from_pretrained(output, num_labels=3)
    tokenizer = AutoTokenizer.from_pretrained(output)
    labels = ["billing", "delivery", "technical"]
    rows = [json.loads(line) for line in tickets.read_text().splitlines()]
    inputs = tokenizer([r["text"] for r in rows], padding=True, return_tensors="pt")
    with torch.no_grad():
        predicted = model.eval()(**inputs).logits.argmax(-1)
    right = sum(labels[p] == r["label"] for p, r in zip(predicted.tolist(), rows, strict=True))
    assert right / len(rows) >= min(0.8, result.metrics["accuracy"] - 0.15)


def test_a_model_that_reads_back_otherwise_is_not_published(
    tiny_bert: Path, tickets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from peft import PeftModel
    from safetensors.torch import load_file, save_file

    from finetune_trainer.export.verification import ExportError

    original = PeftModel.save_pretrained

    def spoiled(self: Any, folder: str, **options: Any) -> None:
        original(self, folder, **options)
        file = Path(folder) / "adapter_model.safetensors"
        save_file({n: t * 1.5 for n, t in load_file(file).items()}, file)

    monkeypatch.setattr(PeftModel, "save_pretrained", spoiled)
    with pytest.raises(ExportError, match="the exported model answers otherwise than the trained model"):
        run(job(tmp_path, tiny_bert, tickets, maxSteps=4, learningRate=5e-2), tmp_path)
    assert not (tmp_path / "output").exists()


@pytest.mark.parametrize("method", [FULL, LORA], ids=["full", "lora"])
def test_a_decoder_without_padding_token_is_exported_whole(
    method: dict, tiny_gpt2: Path, questions: Path, tmp_path: Path
) -> None:
    result, _ = run(job(tmp_path, tiny_gpt2, questions, task="TextGeneration", method=method, maxSteps=2), tmp_path)
    verify_folder(tmp_path / "output", result.artifact_digest)
    assert (result.evaluated_on, result.metrics) == ("none", {})


def test_an_attempt_that_was_replaced_leaves_alone_what_may_have_been_published(
    tiny_bert: Path, tickets: Path, tmp_path: Path
) -> None:
    """Its node may have been frozen while it exported, and the next attempt done meanwhile."""
    config = job(tmp_path, tiny_bert, tickets)
    made = tmp_path / "made"
    made.mkdir()
    (made / "README.md").write_text("of the first attempt")
    upload_artifact(config, made, config.output)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / FENCE).write_bytes(encode_fence(2))
    (made / "README.md").write_text("of the first attempt, later")

    with pytest.raises(Superseded, match="attempt 2 of the job has taken over"):
        upload_artifact(config, made, config.output)
    assert (tmp_path / "output" / "README.md").read_text() == "of the first attempt"
