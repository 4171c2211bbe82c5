"""A model in ONNX, run by onnxruntime, that is called as one of transformers is."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from transformers import AutoConfig

MODEL_FILE = "model.onnx"


class OnnxModel:
    """Takes tensors by the names of the graph's inputs, ignores others, and gives its outputs. On processors only."""

    training = False
    device = torch.device("cpu")
    dtype = torch.float32

    def __init__(self, folder: Path, trust_remote_code: bool = False) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        # As many as PyTorch was given; by itself it would take every core of the node.
        options.intra_op_num_threads = torch.get_num_threads()
        self._session = onnxruntime.InferenceSession(
            str(folder / MODEL_FILE), options, providers=["CPUExecutionProvider"]
        )
        self._inputs = [node.name for node in self._session.get_inputs()]
        self._outputs = [node.name for node in self._session.get_outputs()]
        self.config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code, local_files_only=True)

    def __call__(self, **inputs: Any) -> Any:
        """Outputs by name, in float32."""
        given = {name: inputs[name].cpu().numpy() for name in self._inputs}
        made = self._session.run(self._outputs, given)
        return SimpleNamespace(**{name: torch.from_numpy(one) for name, one in zip(self._outputs, made, strict=True)})

    def to(self, device: Any) -> "OnnxModel":
        """Stays where it is."""
        return self

    def eval(self) -> "OnnxModel":
        """It knows nothing else."""
        return self

    def train(self, mode: bool = True) -> "OnnxModel":
        """Goes on answering as in evaluation: there is no dropout in the graph."""
        return self

    def requires_grad_(self, wanted: bool = True) -> "OnnxModel":
        """It has no gradients."""
        return self
