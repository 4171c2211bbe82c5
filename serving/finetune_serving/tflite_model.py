"""A model in a .tflite file, run by LiteRT, that is called as one of transformers is."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from finetune_serving.converted_model import ConvertedModel

MODEL_FILE = "model.tflite"


class TfliteModel(ConvertedModel):
    """The file takes one row of a fixed length: rows go one by one, padded, and what they give is cut again."""

    def __init__(self, folder: Path, trust_remote_code: bool = False) -> None:
        from ai_edge_litert.interpreter import Interpreter

        super().__init__(folder, trust_remote_code)
        self._run = Interpreter(str(folder / MODEL_FILE), num_threads=torch.get_num_threads()).get_signature_runner()
        self._inputs = self._run.get_input_details()
        self._padding = {"input_ids": getattr(self.config, "pad_token_id", None) or 0}

    def __call__(self, **inputs: Tensor) -> Any:
        """Outputs by name, in float32."""
        given = {name: self._filled(name, inputs[name].cpu()) for name in self._inputs}
        rows = [
            self._run(**{name: values[row : row + 1] for name, values in given.items()})
            for row in range(len(next(iter(given.values()))))
        ]
        length = inputs["input_ids"].shape[1] if "input_ids" in inputs else None
        return SimpleNamespace(
            **{name: _cut(name, np.concatenate([row[name] for row in rows]), length) for name in rows[0]}
        )

    def _filled(self, name: str, values: Tensor) -> Any:
        about = self._inputs[name]
        if values.dim() == 2:
            missing = int(about["shape"][1]) - values.shape[1]
            values = functional.pad(values, (0, missing), value=self._padding.get(name, 0))
        return values.numpy().astype(about["dtype"])


def _cut(name: str, made: Any, length: int | None) -> Tensor:
    """What stands for padding goes, of `logits` (rows, length, classes) and scores of places (rows, length)."""
    of_tokens = made.ndim == 3 or name != "logits"
    return torch.from_numpy(made[:, :length] if of_tokens else made)
