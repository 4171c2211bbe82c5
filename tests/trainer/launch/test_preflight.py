"""What pod 0 finds out before PyTorch is loaded."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy
import pytest
from safetensors.numpy import save_file

from finetune_api.exit_codes import ExitCode
from finetune_api.names import ENV_MEMORY_LIMIT
from finetune_api.trainer_config import TrainerConfig
from finetune_storage.errors import NotFoundError, UriError
from finetune_trainer.errors import ConfigurationError, DataError
from finetune_trainer.launch.memory_estimate import gpu_memory, warn_of_memory
from finetune_trainer.launch.preflight import preflight
from trainer.jobs import job, write_jsonl

ROWS = [{"text": "the parcel never came", "label": "delivery"}, {"text": "refund the invoice", "label": "billing"}]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder that has the files of a model, with 600 weights."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    save_file({"a": numpy.zeros((20, 25), "float32"), "b": numpy.zeros(100, "float16")}, folder / "model.safetensors")
    return folder


@pytest.fixture
def train(tmp_path: Path) -> Path:
    return write_jsonl(tmp_path / "train.jsonl", ROWS)


def test_a_job_whose_places_are_there_passes(tmp_path: Path, model: Path, train: Path) -> None:
    preflight(job(tmp_path, model, train))


@pytest.mark.parametrize("missing", ["model", "train"])
def test_a_place_where_nothing_is_is_named_with_its_field(
    tmp_path: Path, model: Path, train: Path, missing: str
) -> None:
    places = {"model": model, "train": train} | {missing: tmp_path / "nowhere"}
    with pytest.raises(NotFoundError, match=r"nowhere") as caught:
        preflight(job(tmp_path, **places))
    field = {"model": "model.source", "train": "dataset.train.source"}[missing]
    assert str(caught.value).startswith(f"{field}: ")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("", "train.jsonl is empty"),
        ("\n\n", "holds no rows"),
        ('{"text": "a"}\n{"text": ', "line 2"),
    ],
)
def test_data_that_cannot_be_read_is_told_by_its_sample(
    tmp_path: Path, model: Path, train: Path, content: str, text: str
) -> None:
    train.write_text(content)
    with pytest.raises(DataError, match=text):
        preflight(job(tmp_path, model, train))


def test_a_column_that_no_row_of_the_sample_has_is_told_with_those_that_there_are(
    tmp_path: Path, model: Path, train: Path
) -> None:
    with pytest.raises(DataError) as caught:
        preflight(job(tmp_path, model, train, dataset={"columns": {"text": "body"}}))
    assert "dataset.columns.text: none of the first 2 rows" in str(caught.value)
    assert "'body'; they have label, text" in str(caught.value)


def test_of_several_files_of_annotations_the_named_one_is_read(tmp_path: Path, model: Path) -> None:
    dataset = {}
    for part in ("train", "validation"):
        content = {"images": [{"id": 1, "file_name": "1.png"}], "annotations": [], "categories": []}
        (tmp_path / f"{part}.json").write_text(json.dumps(content))
        dataset[part] = {"source": f"file://{tmp_path}", "format": "Coco", "annotations": f"{part}.json"}
    told = preflight(job(tmp_path, model, tmp_path, task="ObjectDetection", method={"full": {}}, dataset=dataset))
    assert told.message.endswith("dataset.validation is there, its first 1 rows can be read")


@pytest.mark.parametrize("field", ["stratifyBy", "groupBy"])
def test_so_is_one_to_split_by(tmp_path: Path, model: Path, train: Path, field: str) -> None:
    with pytest.raises(DataError, match=rf"dataset.split.{field}: none of the first 2 rows .* 'customer'; they have"):
        preflight(job(tmp_path, model, train, dataset={"split": {"test": 0.1, field: "customer"}}))


def test_columns_that_came_as_one_are_told_to_be_separated_otherwise(tmp_path: Path, model: Path) -> None:
    (tmp_path / "train.csv").write_text("text;label\nhello;billing\n")
    with pytest.raises(DataError, match=r"they have text;label. CSV is separated by commas: .* ';' between"):
        preflight(job(tmp_path, model, tmp_path / "train.csv", dataset={"columns": {"text": "text", "label": "label"}}))


@pytest.mark.parametrize("field", ["checkpoint.storage", "output.storage"])
def test_a_file_where_a_folder_is_to_be_written_is_told_before_it_costs_a_training(
    tmp_path: Path, model: Path, train: Path, field: str
) -> None:
    config = job(tmp_path, model, train)
    place = f"file://{train}/tickets-1a2b"
    changes = {"output": place}
    if field == "checkpoint.storage":
        changes = {"checkpoint": config.checkpoint.model_copy(update={"storage": place})}
    wrong = config.model_copy(update=changes)
    with pytest.raises(UriError, match=rf"^{field}: .*train.jsonl is a file; name a folder"):
        preflight(wrong)
    assert preflight(wrong, trains=False).reason == "Passed", "a pod that only looks has no volume to write to"


def test_a_folder_without_configuration_or_with_a_damaged_file_is_no_model(
    tmp_path: Path, model: Path, train: Path
) -> None:
    (model / "model.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0not json at all!")
    with pytest.raises(ConfigurationError, match="is no safetensors file"):
        preflight(job(tmp_path, model, train))
    (model / "config.json").unlink()
    with pytest.raises(ConfigurationError, match=r"has no config.json"):
        preflight(job(tmp_path, model, train))


@pytest.mark.parametrize(("kind", "refused"), [("deepseek_v3", True), ("a_type_to_come", False)])
def test_qlora_of_what_is_mostly_experts_is_refused(
    tmp_path: Path, model: Path, train: Path, kind: str, refused: bool
) -> None:
    """However the files hold them: transformers joins them into tensors that bitsandbytes does not quantize."""
    layer = "model.layers.1.mlp"
    tensors = {f"{layer}.experts.{n}.up_proj.weight": numpy.zeros((30, 30), "float32") for n in range(3)}
    shared = numpy.zeros((20, 50), "float32")
    save_file(tensors | {f"{layer}.shared_experts.up_proj.weight": shared}, model / "model.safetensors")
    (model / "config.json").write_text(json.dumps({"model_type": kind}))
    preflight(job(tmp_path, model, train, method={"lora": {}}))
    config = job(tmp_path, model, train, method={"qlora": {}})
    if not refused:
        preflight(config)
        return
    with pytest.raises(
        ConfigurationError, match=r"method.qlora: 73% of the weights .* 'deepseek_v3' .*; use lora, with"
    ):
        preflight(config)


def test_what_was_found_is_told(tmp_path: Path, model: Path, train: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = preflight(job(tmp_path, model, train))
    assert (told.status, told.reason) == ("True", "Passed")
    assert told.message.startswith("the model is there, 600 weights; dataset.train is there, its first 2 rows")
    monkeypatch.setenv(ENV_MEMORY_LIMIT, "1000")  # as the downward API says it
    told = preflight(job(tmp_path, model, train))
    assert (told.status, told.reason) == ("True", "MemoryShort")
    assert "raise resources.limits.memory" in told.message


def test_a_storage_that_does_not_answer_is_left_to_the_workers(tmp_path: Path, model: Path, train: Path) -> None:
    environment = {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (environment | {"AWS_MAX_ATTEMPTS": "1"}).items():
            patch.setenv(name, value)
        told = preflight(job(tmp_path, model, train, dataset={"test": {"source": "s3://gone/test.jsonl"}}))
    assert (told.status, told.reason) == ("Unknown", "StorageUnavailable")


@pytest.mark.parametrize(
    ("method", "limit", "warned"), [("full", 9599, True), ("full", 9600, False), ("lora", 4799, True)]
)
def test_too_little_memory_is_a_warning(
    tmp_path: Path, model: Path, train: Path, method: str, limit: int, warned: bool
) -> None:
    (tmp_path / "memory.max").write_text(f"{limit}\n")
    config = job(tmp_path, model, train, method={method: {}})
    told = warn_of_memory(config, 600, tmp_path / "memory.max")
    assert bool(told) is warned
    (tmp_path / "memory.max").write_text("max\n")
    assert warn_of_memory(config, 10**15, tmp_path / "memory.max") is None


TWO_GPUS = """#!/bin/sh
test "$*" = "--query-gpu=memory.total --format=csv,noheader,nounits" || exit 2
printf '81559\\n81559\\n'
"""


def test_gpus_tell_their_memory_without_pytorch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpu_memory() == []
    program = tmp_path / "nvidia-smi"
    program.write_text(TWO_GPUS)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert gpu_memory() == [81559 * 2**20] * 2
    program.write_text("#!/bin/sh\necho 'NVIDIA-SMI has failed'; exit 9\n")
    assert gpu_memory() == []


@pytest.mark.parametrize(
    ("distributed", "method", "told"),
    [
        ({"processesPerNode": 2}, "full", "need about 89.4 GiB on each GPU, of which the smallest has 79.6 GiB"),
        ({"processesPerNode": 2}, "lora", None),
        ({"processesPerNode": 2, "fsdp": {}}, "full", None),
        ({"engine": "DeepSpeed", "processesPerNode": 2, "deepspeed": {"zeroStage": 2}}, "full", None),
    ],
)
def test_what_a_gpu_cannot_hold_is_a_warning(
    tmp_path: Path, model: Path, train: Path, distributed: dict[str, Any], method: str, told: str | None
) -> None:
    config = job(tmp_path, model, train, method={method: {}})
    config = TrainerConfig.model_validate(config.wire() | {"distributed": distributed})
    warned = warn_of_memory(config, 6_000_000_000, None, [81559 * 2**20] * 2)
    assert told in warned if told and warned else (told, warned) == (None, None)
    (tmp_path / "memory.max").write_text(f"{44 * 2**30}\n")
    short = warn_of_memory(config, 6_000_000_000, tmp_path / "memory.max", [81559 * 2**20] * 2) or ""
    assert "need about 44.7 GiB in 2 processes of a pod that has 44 GiB" in short


RUN = """
import sys
from finetune_trainer.cli import run
from finetune_trainer.stop import StopSignal
code = run(["--config", sys.argv[1]], StopSignal())
print("torch" in sys.modules)
raise SystemExit(code)
"""


def test_a_wrong_path_ends_pod_0_before_pytorch_is_loaded(tmp_path: Path, model: Path) -> None:
    config: TrainerConfig = job(tmp_path, model, tmp_path / "nowhere.jsonl")
    file, message = tmp_path / "job.json", tmp_path / "message"
    file.write_text(json.dumps(config.wire()))
    environment: dict[str, Any] = os.environ | {
        "PET_NNODES": "2", "PET_NODE_RANK": "0", "PET_MASTER_ADDR": "localhost", "PET_MASTER_PORT": "1",
        "FINETUNE_TERMINATION_FILE": str(message),
    }  # fmt: skip
    ended = subprocess.run(
        [sys.executable, "-c", RUN, str(file)], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert (ended.returncode, ended.stdout) == (ExitCode.CONFIGURATION, "False\n"), ended.stderr
    words = json.loads(message.read_text())
    assert "dataset.train.source" in words["message"]
    assert words["preflight"] == {"status": "False", "reason": "ConfigurationError", "message": words["message"]}
