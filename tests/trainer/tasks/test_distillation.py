"""A student learns what its teacher knows, not only what the labels say."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional

from finetune_api.distillation import Distillation
from finetune_trainer.errors import ConfigurationError
from trainer.in_process import run
from trainer.jobs import FULL, NUMBERS, TICKETS, job, write_jsonl

CLASSES = sorted(TICKETS)


SEEN, HELD_OUT = NUMBERS[:4], NUMBERS[4:6]


def rows(endings: list[str], wrong: bool = False) -> list[dict[str, str]]:
    """Every ticket with every ending; with `wrong`, each has the label of another class."""
    return [
        {"text": f"{text} {number}", "label": CLASSES[(CLASSES.index(name) + wrong) % len(CLASSES)]}
        for number in endings
        for name, texts in TICKETS.items()
        for text in texts
    ]


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory, wild_bert: Path) -> dict[str, Path]:
    """A teacher that has learnt the right labels, data with wrong ones, and right ones to be judged by."""
    root = tmp_path_factory.mktemp("distillation")
    right = write_jsonl(root / "right.jsonl", rows(SEEN))
    result, _ = run(job(root, wild_bert, right, method=FULL, maxSteps=40, learningRate=5e-3), root)
    assert result.format == "Full"
    return {
        "teacher": root / "output",
        "wrong": write_jsonl(root / "wrong.jsonl", rows(SEEN, wrong=True)),
        "right": write_jsonl(root / "held-out.jsonl", rows(HELD_OUT)),
    }


def taught(root: Path, model: Path, places: dict[str, Path], **settings: Any) -> Any:
    """A job on the wrong labels that is judged by the right ones."""
    distillation = {"teacher": f"file://{places['teacher']}", **settings}
    return job(
        root,
        model,
        places["wrong"],
        method=FULL,
        dataset={"test": {"source": f"file://{places['right']}"}},
        maxSteps=40,
        learningRate=5e-3,
        distillation=distillation,
    )


def test_a_student_believes_its_teacher_rather_than_wrong_labels(
    places: dict[str, Path], wild_bert: Path, tmp_path: Path
) -> None:
    result, _ = run(taught(tmp_path, wild_bert, places, weight=1.0), tmp_path)
    assert result.metrics["accuracy"] > 0.9
    report = json.loads((tmp_path / "output/data_report.json").read_text())
    assert report["teacher"]["agreement"] < 0.1, "the labels alone would teach the opposite"


def test_the_loss_is_that_of_the_paper() -> None:
    from finetune_trainer.tasks.distillation import with_teacher

    logits = torch.tensor([[1.0, 0.0, -1.0], [0.5, 0.5, 2.0]], requires_grad=True)
    teacher = torch.tensor([[2.0, 1.0, 0.0], [0.0, 3.0, 0.0]])
    settings = Distillation(teacher="file:///t", temperature=3.0, weight=0.25)
    labels = functional.cross_entropy(logits, torch.tensor([0, 1]), reduction="sum")
    loss = with_teacher(labels, logits, teacher.log_softmax(-1), settings)
    soft = (teacher / 3).softmax(-1)
    distance = (soft * (soft.log() - (logits / 3).log_softmax(-1))).sum()
    assert loss.item() == pytest.approx((0.75 * labels + 0.25 * 9 * distance).item())
    same = with_teacher(labels * 0, logits, logits.detach().log_softmax(-1), settings)
    (gradient,) = torch.autograd.grad(same, logits)
    assert gradient.abs().max() < 1e-6


def test_divergences_are_those_of_their_papers() -> None:
    from finetune_trainer.tasks.distillation import divergence

    own, teacher = torch.tensor([[0.7, 0.2, 0.1]]), torch.tensor([[0.1, 0.6, 0.3]])
    mixture = 0.3 * teacher + 0.7 * own

    def kl(p: torch.Tensor, q: torch.Tensor) -> float:
        return float((p * (p / q).log()).sum())

    expected = {
        "ForwardKL": kl(teacher, own),
        "ReverseKL": kl(own, teacher),
        "JensenShannon": 0.3 * kl(teacher, mixture) + 0.7 * kl(own, mixture),
    }
    for kind, value in expected.items():
        share = 0.3 if kind == "JensenShannon" else None
        settings = Distillation.model_validate({"teacher": "file:///t", "divergence": kind, "teacherShare": share})
        assert float(divergence(own.log(), teacher.log(), settings)) == pytest.approx(value)
    with pytest.raises(ValidationError, match="teacherShare is that of divergence JensenShannon"):
        Distillation.model_validate({"teacher": "file:///t", "teacherShare": 0.3})


def test_a_teacher_of_other_classes_is_refused(places: dict[str, Path], wild_bert: Path, tmp_path: Path) -> None:
    other = write_jsonl(tmp_path / "other.jsonl", [*rows(SEEN), {"text": "hello", "label": "other"}])
    config = taught(tmp_path, wild_bert, places | {"wrong": other})
    expected = (
        r"teacher: knows the classes billing, delivery, technical, and the data has billing, delivery, other, tech"
    )
    with pytest.raises(ConfigurationError, match=expected):
        run(config, tmp_path)


def test_a_folder_that_is_no_artifact_is_refused(places: dict[str, Path], wild_bert: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"teacher: file://.* is no artifact of this trainer"):
        run(taught(tmp_path, wild_bert, places | {"teacher": wild_bert}), tmp_path)


def test_a_damaged_teacher_is_refused(places: dict[str, Path], wild_bert: Path, tmp_path: Path) -> None:
    import shutil

    damaged = shutil.copytree(places["teacher"], tmp_path / "damaged")
    (damaged / "config.json").write_text("{}")
    with pytest.raises(ConfigurationError, match=r"training\.distillation\.teacher: .*damaged"):
        run(taught(tmp_path, wild_bert, places | {"teacher": damaged}), tmp_path)
