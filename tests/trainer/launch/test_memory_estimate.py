"""The estimate of memory follows what the trainer does: by table, and against what a run really takes."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

from exhaustive import some_of
from finetune_api.trainer_config import TrainerConfig
from finetune_trainer.launch.memory_estimate import memory_estimate
from trainer.jobs import FULL, job

FOUR = {"processesPerNode": 4}
LORA: dict[str, Any] = {"lora": {}}


def zero(stage: int, **settings: bool) -> dict[str, Any]:
    return {"engine": "DeepSpeed", **FOUR, "deepspeed": {"zeroStage": stage, **settings}}


TABLE: list[tuple[str, dict[str, Any], dict[str, Any], dict[str, Any], tuple[float, float, float]]] = [
    # Weights, gradients and two moments in float32. For the export rank 0 reads the model back.
    ("full", FULL, {}, {}, (16, 16, 4)),
    ("AdamW8bit", FULL, {"optimizer": "AdamW8bit"}, {}, (10, 10, 4)),
    ("Muon", FULL, {"optimizer": "Muon"}, {}, (12, 12, 4)),
    ("bfloat16", FULL, {"precision": "BFloat16"}, {}, (16, 16, 4)),
    ("lora", LORA, {}, {}, (8, 4, 4)),
    ("lora in bfloat16", LORA, {"precision": "BFloat16"}, {}, (4, 2, 2)),
    ("pissa in bfloat16", {"lora": {"init": "PiSSA"}}, {"precision": "BFloat16"}, {}, (8, 4, 4)),
    ("qlora", {"qlora": {}}, {"precision": "BFloat16"}, {}, (1.2, 0.6, 0.6)),
    ("ddp", FULL, {}, FOUR, (64, 16, 16)),
    # Rank 0 alone has the whole model, and twice at the end; the others a share.
    ("fsdp", FULL, {}, {**FOUR, "fsdp": {}}, (16, 4, 8)),
    ("lora, fsdp", {"lora": {}}, {"precision": "BFloat16"}, {**FOUR, "fsdp": {}}, (5.5, 0.5, 4)),
    # A quarter of the moments and of a second copy of the weights; of the gradients too; of the weights too.
    ("zero-1", FULL, {}, zero(1), (44, 11, 16)),
    ("zero-2", FULL, {}, zero(2), (32, 8, 16)),
    ("zero-3", FULL, {}, zero(3), (20, 5, 8)),
    ("zero-2, offload", FULL, {}, zero(2, offloadOptimizer=True), (32, 5, 16)),
    ("zero-3, offload", FULL, {}, zero(3, offloadOptimizer=True, offloadParameters=True), (20, 1, 16)),
]


@pytest.mark.parametrize(
    ("method", "training", "distributed", "expected"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE]
)
def test_bytes_for_each_weight(
    method: dict[str, Any],
    training: dict[str, Any],
    distributed: dict[str, Any],
    expected: tuple[float, float, float],
) -> None:
    """Of the pod of rank 0 without GPUs, of each GPU, and of that pod beside them."""
    nowhere = Path("/nowhere")
    body = job(nowhere, nowhere, nowhere, task="TextGeneration", method=method, **training).wire()
    found = memory_estimate(TrainerConfig.model_validate(body | {"distributed": distributed}), 1000)
    assert (found.pod, found.gpu, found.beside_gpus) == pytest.approx(tuple(1000 * one for one in expected))


MEASURED: dict[str, dict[str, Any]] = {
    "full": {"method": FULL},
    "Adafactor": {"method": FULL, "optimizer": "Adafactor", "learningRate": 1e-3},
    "AdamW8bit": {"method": FULL, "optimizer": "AdamW8bit"},
    "lora": {"method": LORA},
    "lora in bfloat16": {"method": LORA, "precision": "BFloat16"},
}
RUN = """
import sys, threading
from pathlib import Path
import orjson
from finetune_api.trainer_config import TrainerConfig
from trainer.in_process import run
small, large = (TrainerConfig.model_validate(config) for config in orjson.loads(Path(sys.argv[1]).read_bytes()))
def resident():  # without the pages of mapped files, which the kernel takes back when it needs them
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))
run(small, Path(sys.argv[1] + "-small"))  # loads all libraries
before, most, ended = resident(), [0], threading.Event()
def watch():
    while not ended.wait(0.005):
        most[0] = max(most[0], resident())
watcher = threading.Thread(target=watch)
watcher.start()
run(large, Path(sys.argv[1] + "-large"))
ended.set()
watcher.join()
print("TOOK", most[0] - before)
"""


@pytest.mark.parametrize("name", some_of(MEASURED, ()))
def test_a_run_takes_about_what_is_estimated(name: str, tiny_llama: Path, questions: Path, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    from trainer import tiny_models

    sized = {"hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 6}
    model = tiny_models.llama(tmp_path / "model", **sized)
    if name == "lora":  # float32 is mapped from a file that has float32, and is then nobody's own memory
        AutoModelForCausalLM.from_pretrained(model, dtype=torch.bfloat16).save_pretrained(model)
    settings = {"task": "TextGeneration", "batchSize": 2, "maxSteps": 2, **MEASURED[name]}
    configs = [job(tmp_path / str(n), one, questions, **settings) for n, one in enumerate((tiny_llama, model))]
    file = tmp_path / "configs.json"
    file.write_bytes(orjson.dumps([config.wire() for config in configs]))
    environment = {"PYTHONPATH": str(Path(__file__).parents[2]), "PATH": "/usr/bin:/bin", "MALLOC_TRIM_THRESHOLD_": "0"}
    command = [sys.executable, "-c", RUN, str(file)]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900, check=False)
    assert ended.returncode == 0, ended.stderr
    took = int(ended.stdout.rsplit("TOOK", 1)[1])
    estimate = memory_estimate(configs[1], sum(_sizes(model))).pod
    assert 0.7 * estimate < took < 1.3 * estimate + 100 * 2**20, (took / 2**20, estimate / 2**20)


def _sizes(model: Path) -> list[int]:
    from safetensors import safe_open

    with safe_open(model / "model.safetensors", "pt") as tensors:
        shapes = [tensors.get_slice(key).get_shape() for key in tensors.keys()]  # noqa: SIM118  # it is no mapping
    return [shape[0] * (shape[1] if len(shape) > 1 else 1) for shape in shapes]
