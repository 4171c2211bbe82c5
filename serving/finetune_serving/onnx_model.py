"""A model in ONNX, run by onnxruntime, that is called as one of transformers is."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from finetune_serving.converted_model import ConvertedModel
from finetune_serving.onnx_session import OnnxSession


class OnnxModel(ConvertedModel):
    """Takes tensors by the names of the graph's inputs, ignores others, and gives its outputs."""

    def __init__(self, folder: Path, trust_remote_code: bool = False) -> None:
        super().__init__(folder, trust_remote_code)
        self._graph = OnnxSession(folder)

    def __call__(self, **inputs: Any) -> Any:
        """Outputs by name, in float32."""
        return SimpleNamespace(**self._graph.run(inputs))
