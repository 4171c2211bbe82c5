"""A model in ONNX, run by onnxruntime, that is called as one of transformers is."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from finetune_serving.converted_model import ConvertedModel

MODEL_FILE = "model.onnx"


class OnnxModel(ConvertedModel):
    """Takes tensors by the names of the graph's inputs, ignores others, and gives its outputs."""

    def __init__(self, folder: Path, trust_remote_code: bool = False) -> None:
        import onnxruntime

        super().__init__(folder, trust_remote_code)
        options = onnxruntime.SessionOptions()
        # As many as PyTorch was given; by itself it would take every core of the node.
        options.intra_op_num_threads = torch.get_num_threads()
        self._session = onnxruntime.InferenceSession(
            str(folder / MODEL_FILE), options, providers=["CPUExecutionProvider"]
        )
        self._inputs = [node.name for node in self._session.get_inputs()]
        self._outputs = [node.name for node in self._session.get_outputs()]

    def __call__(self, **inputs: Any) -> Any:
        """Outputs by name, in float32."""
        given = {name: inputs[name].cpu().numpy() for name in self._inputs}
        made = self._session.run(self._outputs, given)
        return SimpleNamespace(**{name: torch.from_numpy(one) for name, one in zip(self._outputs, made, strict=True)})
