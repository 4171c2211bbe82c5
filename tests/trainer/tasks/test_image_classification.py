"""Images: found, looked at before training, and refused with their place."""

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from finetune_api.dataset import Columns
from finetune_trainer.data.reading import read_rows
from finetune_trainer.errors import ConfigurationError, DataError
from finetune_trainer.models.batch_statistics import keep_batch_statistics
from finetune_trainer.models.load import load_config
from finetune_trainer.tasks.image_classification import ImageClassification
from trainer.jobs import write_jsonl

TASK = ImageClassification(Columns())


def picture(path: Path, colour: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (4, 4), colour).save(path)
    return path


def examples(path: Path, form: Any = "Auto") -> list[Any]:
    return [TASK.read(row) for row in read_rows(path, form, "train")]


def test_a_folder_is_a_class(tmp_path: Path) -> None:
    picture(tmp_path / "cat" / "old" / "1.png")
    picture(tmp_path / "dog" / "2.PNG", 9)
    picture(tmp_path / ".cache" / "3.png")
    found = examples(tmp_path)
    place = f"train: {tmp_path.name}"
    assert [(str(e.where), e.label) for e in found] == [
        (f"{place}/cat/old/1.png", "cat"),
        (f"{place}/dog/2.PNG", "dog"),
    ]
    assert examples(tmp_path, "ClassFolders") == found


def test_folders_of_parts_are_no_classes(tmp_path: Path) -> None:
    picture(tmp_path / "train" / "cat" / "1.png")
    picture(tmp_path / "val" / "cat" / "2.png")
    with pytest.raises(DataError, match=r"named train, val, which are parts .*name the folder of each part"):
        examples(tmp_path)
    assert [e.label for e in examples(tmp_path / "train")] == ["cat"]


def test_rows_name_images_beside_them(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "1.png")
    write_jsonl(tmp_path / "train.jsonl", [{"image": "images/1.png", "label": "cat"}])
    [from_folder], [from_file] = examples(tmp_path), examples(tmp_path / "train.jsonl")
    assert from_folder.target == from_file.target == str(tmp_path / "images" / "1.png")


def test_copies_of_an_image_are_one_example_by_content(tmp_path: Path) -> None:
    picture(tmp_path / "cat" / "1.png", 5)
    picture(tmp_path / "cat" / "2.png", 5)
    picture(tmp_path / "cat" / "3.png", 6)
    first, second, third = examples(tmp_path)
    assert first.identity == second.identity != third.identity


def test_an_image_that_is_not_there_or_none_is_named(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "train.jsonl", [{"image": "1.png", "label": "cat"}])
    with pytest.raises(DataError, match=r"train\.jsonl line 1: image '1\.png' is not in .*give the folder"):
        examples(tmp_path)
    (tmp_path / "1.png").write_bytes(picture(tmp_path / "2.png").read_bytes()[:40])
    with pytest.raises(DataError, match=r"train\.jsonl line 1: 1\.png is not a readable image"):
        examples(tmp_path)


def test_a_folder_without_classes_says_the_layout(tmp_path: Path) -> None:
    picture(tmp_path / "1.png")
    with pytest.raises(DataError, match="the layout is CLASS/FILE"):
        examples(tmp_path, "ClassFolders")
    with pytest.raises(DataError, match=r"1\.png is a file; ClassFolders is for a folder"):
        examples(tmp_path / "1.png", "ClassFolders")


def test_a_model_without_image_processor_is_refused(tiny_bert: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"no usable preprocessor_config\.json"):
        TASK.load_processor(tiny_bert)
    with pytest.raises(ConfigurationError, match="no ImageClassification model of the type 'bert'"):
        load_config(tiny_bert, TASK)


def test_batch_normalisation_keeps_its_statistics_and_trains_its_scale() -> None:
    layer = torch.nn.BatchNorm2d(2)
    model = keep_batch_statistics(torch.nn.Sequential(layer)).train()
    assert model.training
    assert not layer.training
    model(torch.randn(4, 2, 3, 3)).square().sum().backward()
    assert layer.running_mean is not None
    assert layer.running_mean.tolist() == [0, 0]
    assert layer.weight.grad is not None


def test_a_model_that_cannot_recompute_activations_says_so(tmp_path: Path) -> None:
    from trainer import tiny_models
    from trainer.in_process import run
    from trainer.tasks.task_cases import CASES
    from trainer.tasks.test_every_task import job_of

    case = CASES["image-classification-resnet"]
    model, data = tiny_models.resnet(tmp_path / "model"), case.data(tmp_path / "data")
    with pytest.raises(ConfigurationError, match=r"gradientCheckpointing: models of the type 'resnet' cannot"):
        run(job_of(case, tmp_path, model, data, gradientCheckpointing=True), tmp_path)
