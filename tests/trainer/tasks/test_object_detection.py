"""Object detection: the loss is DETR's, however a step is cut up, and a box means the same with and without padding."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import DetrConfig, YolosConfig
from transformers.loss.loss_for_object_detection import ForObjectDetectionLoss

from examples.tasks import make_data
from finetune_api.dataset import Columns
from finetune_serving.detections import detections
from finetune_trainer.data.encoded import Encoded, encode
from finetune_trainer.data.parts import Parts
from finetune_trainer.data.reading import read_rows
from finetune_trainer.errors import ConfigurationError, DataError
from finetune_trainer.metrics.detections import BOXES, SIZE
from finetune_trainer.tasks.detection_loss import Objects, Weights, set_loss_sum
from finetune_trainer.tasks.object_detection import SHARES, ObjectDetection
from trainer import tiny_models
from trainer.in_process import run
from trainer.jobs import FULL, job, start, write_jsonl

CONFIG = YolosConfig()


def objects(*counts: int) -> Objects:
    generator = torch.Generator().manual_seed(sum(counts))
    sides = torch.rand(sum(counts), 2, generator=generator) * 0.4 + 0.1
    boxes = torch.cat([torch.rand(sum(counts), 2, generator=generator) * 0.4 + 0.3, sides], dim=1)
    images = torch.repeat_interleave(torch.tensor(counts))
    classes = torch.randint(0, 3, (sum(counts),), generator=generator)
    return Objects(images, classes, boxes, torch.tensor(max(1.0, sum(counts) / len(counts))))


def answers(images: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(images)
    boxes = torch.rand(images, 6, 4, generator=generator) * 0.4 + 0.3
    return torch.randn(images, 6, 4, generator=generator), boxes


@pytest.mark.parametrize("count", [0, 1, 4])
def test_of_one_image_it_is_the_loss_of_transformers(count: int) -> None:
    logits, boxes = answers(1)
    wanted = objects(count)
    config = YolosConfig(num_labels=3)
    labels = [{"class_labels": wanted.classes, "boxes": wanted.boxes}]
    expected, *_ = ForObjectDetectionLoss(logits, labels, "cpu", boxes, config)
    assert set_loss_sum(logits, boxes, wanted, Weights.of(config), 0.0) == pytest.approx(float(expected), rel=1e-5)


def test_it_is_a_sum_over_images_however_they_are_batched() -> None:
    logits, boxes = answers(3)
    counts = [2, 0, 3]
    every = objects(*counts)
    weights = Weights.of(CONFIG)
    whole = set_loss_sum(logits, boxes, every, weights, 0.0)
    parts = []
    for image in range(3):
        own = every.images == image
        alone = Objects(every.images[own] - image, every.classes[own], every.boxes[own], every.an_image)
        parts.append(set_loss_sum(logits[image : image + 1], boxes[image : image + 1], alone, weights, 0.0))
    assert float(whole) == pytest.approx(float(sum(parts)), rel=1e-6)


def test_without_objects_the_boxes_still_have_a_gradient() -> None:
    """Other ranks would wait for it."""
    logits, boxes = (tensor.requires_grad_() for tensor in answers(2))
    set_loss_sum(logits, boxes, objects(0, 0), Weights.of(CONFIG), 0.0).backward()
    assert boxes.grad is not None
    assert not boxes.grad.any()
    assert logits.grad is not None
    assert logits.grad.any()


def test_a_model_that_gives_no_numbers_has_a_loss_that_is_none() -> None:
    logits, boxes = answers(1)
    assert torch.isnan(set_loss_sum(logits, boxes * torch.nan, objects(2), Weights.of(CONFIG), 0.0))


def encoded(task: ObjectDetection, processor: Any, folder: Path) -> Encoded:
    examples = [task.read(row) for row in read_rows(make_data.scenes(folder, 6), "Auto", "train")]
    return encode(task.encode(examples, processor, task.labels(Parts(examples, [], []))))


@pytest.mark.parametrize("model", [tiny_models.yolos, tiny_models.detr])
def test_boxes_come_back_as_they_went_in(model: Any, tmp_path: Path) -> None:
    """Images of different proportions share a batch; what the loss wants is read as the server reads answers."""
    task = ObjectDetection(Columns())
    processor = task.load_processor(model(tmp_path / "model"))
    data = encoded(task, processor, tmp_path / "data")
    batch = task.collator(processor)(data, [[n] for n in range(len(data))])
    masked = "pixel_mask" in batch.inputs
    assert masked == (model is tiny_models.detr)
    assert (batch.inputs["pixel_mask"] == 0).any() if masked else (batch.extras[SHARES] < 1).any()
    for image in range(len(data)):
        own = batch.positions == image
        boxes = batch.extras[BOXES][own][None]
        _, _, corners = detections(torch.zeros(1, 1, 3), boxes, None if masked else batch.extras[SHARES][[image]])
        size = np.asarray(data[SIZE][image])
        assert corners[0].numpy() * [*size, *size] == pytest.approx(data[BOXES][image].reshape(-1, 4), abs=1e-3)


def test_padding_does_not_change_what_a_model_without_mask_is_given(tmp_path: Path) -> None:
    task = ObjectDetection(Columns())
    processor = task.load_processor(tiny_models.yolos(tmp_path / "model"))
    data = encoded(task, processor, tmp_path / "data")
    collate = task.collator(processor)
    together, alone = collate(data, [[0], [1]]), collate(data, [[1]])
    assert torch.equal(together.inputs["pixel_values"][1:], alone.inputs["pixel_values"])


def test_more_objects_than_the_model_can_find_are_refused(tmp_path: Path) -> None:
    task = ObjectDetection(Columns())
    processor = task.load_processor(tiny_models.yolos(tmp_path / "model"))
    Image.new("RGB", (20, 20)).save(tmp_path / "a.png")
    row = {"image": "a.png", "objects": [{"bbox": [n, n, 2, 2], "category": "cat"} for n in range(6)]}
    [example] = [task.read(r) for r in read_rows(write_jsonl(tmp_path / "a.jsonl", [row]), "Auto", "train")]
    with pytest.raises(DataError, match=r"a\.jsonl line 1: 6 objects, but the model can find 5"):
        task.encode([example], processor, ["cat"])


def test_a_category_that_training_lacks_is_refused(tmp_path: Path) -> None:
    task = ObjectDetection(Columns())
    examples = [task.read(row) for row in read_rows(make_data.scenes(tmp_path, 12), "Auto", "train")]
    one = [example for example in examples if set(example.target.categories) == {"pallet"}]
    other = [example for example in examples if "parcel" in example.target.categories]
    with pytest.raises(DataError, match=r"image \d+ .*'parcel' is on no training image.*training has: pallet"):
        task.labels(Parts(one, [], other))


def test_a_backbone_that_is_not_installed_is_named(tmp_path: Path) -> None:
    DetrConfig().save_pretrained(tmp_path)
    with pytest.raises(ConfigurationError, match=r"library timm, which is not installed; use a revision .*no_timm"):
        ObjectDetection(Columns()).load_processor(tmp_path)


def test_two_processes_train_and_measure_as_one(tmp_path: Path) -> None:
    model, data = tiny_models.yolos(tmp_path / "model"), make_data.scenes(tmp_path / "data", 20)
    settings = {"task": "ObjectDetection", "method": FULL, "dataset": {"split": {"test": 0.3}}, "maxSteps": 3}
    one = job(tmp_path / "one", model, data, **settings)
    result, losses = run(one, tmp_path / "one")
    gang = start(job(tmp_path / "two", model, data, microBatchSize=2, **settings), tmp_path / "two", 2)
    assert gang.wait() == [0, 0]
    assert gang.losses == pytest.approx(losses, rel=1e-5)
    assert gang.result(0)["metrics"] == gang.result(1)["metrics"] == pytest.approx(result.metrics, rel=1e-3)
