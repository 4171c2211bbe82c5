"""What a person finds beside a model, made from plain numbers."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from huggingface_hub import ModelCard
from matplotlib.figure import Figure
from sklearn.metrics import roc_auc_score

from finetune_api.trainer_config import TrainerConfig
from finetune_trainer.data.trained_on import TrainedOn
from finetune_trainer.loop.history import LIMIT, History
from finetune_trainer.metrics.roc import roc_curves
from finetune_trainer.report.files import ReportContext, write_reports
from finetune_trainer.report.plots import draw_loss, moving_mean, write_plots
from trainer.jobs import job

LEARNT = TrainedOn.of(np.arange(3, dtype=np.uint64))
LABELS = ["a|b", "longer than any label that has room in a picture", "$c$", "日本"]
HISTORY = {
    "training": [{"step": s, "loss": 2.0 / s, "learningRate": 1e-3 / s} for s in range(1, 9)],
    "validation": [{"step": 4, "loss": 0.8, "f1": 0.5}, {"step": 8, "loss": 0.5, "f1": 0.7}],
}
DATA = {"fingerprint": "sha256:data", "labels": LABELS, "parts": {"train": {"read": 10, "kept": 9, "tokens": 1234}}}


def evaluation(classes: int = 4) -> dict[str, Any]:
    matrix = np.eye(classes, dtype=int) * 7 + 1
    curve = {"falsePositiveRate": [0.0, 0.1, 1.0], "truePositiveRate": [0.0, 0.9, 1.0]}
    labels = [*LABELS, *(f"class {n}" for n in range(classes))][:classes]
    return {
        "evaluatedOn": "test",
        "examples": int(matrix.sum()),
        "metrics": {"f1": 0.91, "loss": 0.3},
        "baselineMetrics": {"f1": 0.2, "loss": 1.4},
        "labels": labels,
        "confusionMatrix": matrix.tolist(),
        "roc": [{"label": label, **curve} for label in labels[:12]],
    }


def config(root: Path) -> TrainerConfig:
    return job(root, Path("/models/base"), Path("/data/train.jsonl"), epochs=3)


def pixels(file: Path) -> np.ndarray:
    from matplotlib.image import imread

    return imread(file)[..., :3]


def test_every_picture_is_drawn_that_there_is_data_for(tmp_path: Path) -> None:
    drawn = write_plots(tmp_path, evaluation(), HISTORY)
    assert drawn == [f"plots/{name}.png" for name in ("loss", "learning_rate", "confusion_matrix", "roc")]
    for name in drawn:
        picture = pixels(tmp_path / name)
        assert min(picture.shape[:2]) > 300
        assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 10, f"{name} is blank"
        edges = [picture[:2], picture[-2:], picture[:, :2], picture[:, -2:]]
        assert all((edge == 1).all() for edge in edges), f"{name} is cut off"
    assert write_plots(tmp_path, {"metrics": {}}, {"training": HISTORY["training"], "validation": []}) == drawn[:2]


def test_without_data_there_is_no_folder_of_pictures(tmp_path: Path) -> None:
    assert write_plots(tmp_path, {"metrics": {"loss": 1.0}}) == []
    assert not list(tmp_path.iterdir())


def test_a_hundred_classes_still_make_a_picture(tmp_path: Path) -> None:
    assert "plots/confusion_matrix.png" in write_plots(tmp_path, evaluation(classes=100))


@pytest.mark.parametrize(("losses", "lowest"), [([2.0, 0.4], 0.0), ([0.5, -3.0], -3.0)])
def test_negative_losses_are_in_the_picture(losses: list[float], lowest: float) -> None:
    axes = Figure().add_subplot()
    draw_loss(axes, {"training": [{"step": step, "loss": loss} for step, loss in enumerate(losses)], "validation": []})
    assert axes.get_ylim()[0] <= lowest


def test_losses_that_change_little_fill_the_picture() -> None:
    axes = Figure().add_subplot()
    draw_loss(axes, {"training": [{"step": 1, "loss": 7.4}, {"step": 2, "loss": 7.3}], "validation": []})
    assert 7.2 < axes.get_ylim()[0] < 7.3 < 7.4 < axes.get_ylim()[1] < 7.5


def test_a_mean_goes_through_the_middle_of_a_noisy_curve() -> None:
    noisy = [2.0 + (-1) ** step for step in range(200)]
    assert moving_mean(noisy)[5:-5] == pytest.approx(2.0, abs=0.15)
    assert moving_mean([3.0] * 100) == pytest.approx(3.0), "the ends are no lower"


def test_a_picture_that_cannot_be_drawn_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    broken = {**evaluation(), "roc": [{"label": "a", "falsePositiveRate": [0.0], "truePositiveRate": "?"}]}
    assert "plots/roc.png" not in write_plots(tmp_path, broken, HISTORY)
    assert "plots/roc.png was not drawn" in caplog.text


def test_the_card_is_one_that_the_hub_reads(tmp_path: Path) -> None:
    context = ReportContext(config(tmp_path), DATA, HISTORY, {"torch": "2.13.0"}, LEARNT)
    write_reports(tmp_path, context, evaluation(), "peft", ["merged into its base model"])
    card = ModelCard.load(tmp_path / "README.md")
    head = card.data.to_dict()
    assert head["pipeline_tag"] == "text-classification"
    assert [(r.metric_type, r.metric_value) for r in card.data.eval_results] == [("f1", 0.91), ("loss", 0.3)]
    for told in (
        "| f1 | 0.9100 | 0.2000 |",
        "![confusion matrix](plots/confusion_matrix.png)",
        "1. merged into its base model",
        "| training.learningRate | `0.005` |",
        "| data fingerprint | `sha256:data` |",
        "| base model | `file:///models/base` |",
        "| train | 10 | 9 | 1,234 |",
        r"`a\|b`",
    ):
        assert told in card.text, told


def test_a_model_of_the_hub_is_filed_under_its_base(tmp_path: Path) -> None:
    wanted = config(tmp_path)
    wanted.model.source = "hf://org/name"
    write_reports(tmp_path, ReportContext(wanted, DATA, HISTORY, {}, LEARNT), evaluation(), "transformers")
    head = yaml.safe_load((tmp_path / "README.md").read_text().split("---")[1])
    assert (head["base_model"], head["library_name"]) == ("org/name", "transformers")


def test_a_model_that_was_not_evaluated_says_so(tmp_path: Path) -> None:
    report = {"evaluatedOn": "none", "metrics": {}, "baselineMetrics": {}}
    write_reports(
        tmp_path, ReportContext(config(tmp_path), DATA, {"training": [], "validation": []}, {}, LEARNT), report, "x"
    )
    assert "no held-out data" in (tmp_path / "README.md").read_text()


def test_curves_have_the_area_of_the_metric() -> None:
    random = np.random.default_rng(0)
    targets = random.integers(0, 3, 400)
    scores = random.normal(size=(400, 3)) + 1.5 * np.eye(3)[targets]
    curves = roc_curves(scores, targets, ["a", "b", "c"])
    areas = [np.trapezoid(c["truePositiveRate"], c["falsePositiveRate"]) for c in curves]
    assert areas == pytest.approx([roc_auc_score(targets == c, scores[:, c]) for c in range(3)], abs=5e-3)
    assert all(len(c["truePositiveRate"]) <= 101 for c in curves)


def test_a_class_without_examples_has_no_curve() -> None:
    scores = np.log(np.full((4, 3), 1 / 3))
    assert [c["label"] for c in roc_curves(scores, np.asarray([0, 1, 0, 1]), ["a", "b", "c"])] == ["a", "b"]
    assert roc_curves(scores, np.zeros(4, int), ["a", "b", "c"]) == []


def test_a_long_history_keeps_its_ends_and_stays_short() -> None:
    history = History()
    for step in range(1, 3 * LIMIT):
        history.log(step, loss=1.0 / step)
    steps = [point["step"] for point in history.training]
    assert (steps[0], steps[-1]) == (1, 3 * LIMIT - 1)
    assert len(steps) <= LIMIT
    assert steps == sorted(set(steps))


def test_a_history_goes_on_from_a_checkpoint() -> None:
    before, after = History(), History()
    before.log(1, loss=2.0)
    before.evaluated(1, {"f1": 0.5})
    after.restore(json.loads(json.dumps(before.wire())))
    after.log(2, loss=1.0)
    assert [point["step"] for point in after.training] == [1, 2]
    assert after.validation == [{"step": 1, "f1": 0.5}]
