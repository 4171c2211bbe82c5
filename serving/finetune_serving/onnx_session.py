"""An ONNX graph in onnxruntime, with tensors of PyTorch."""

from pathlib import Path

import torch
from torch import Tensor

MODEL_FILE = "model.onnx"


class OnnxSession:
    """On processors, with as many threads as PyTorch was given: by itself it would take every core of the node."""

    def __init__(self, folder: Path, file: str = MODEL_FILE) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        self._session = onnxruntime.InferenceSession(str(folder / file), options, providers=["CPUExecutionProvider"])
        self._sizes = {node.name: node.shape for node in self._session.get_inputs()}
        self._outputs = [node.name for node in self._session.get_outputs()]

    @property
    def inputs(self) -> list[str]:
        """Names."""
        return list(self._sizes)

    def run(self, given: dict[str, Tensor]) -> dict[str, Tensor]:
        """Outputs by name; what the graph does not take is left out."""
        made = self._session.run(self._outputs, {name: given[name].cpu().numpy() for name in self._sizes})
        return {name: torch.from_numpy(one) for name, one in zip(self._outputs, made, strict=True)}

    def empty(self, name: str, rows: int) -> Tensor:
        """An input of that many rows whose other free sizes are 0; some exporters write fixed ones as texts."""
        sizes = (int(size) if str(size).isdecimal() else 0 for size in self._sizes[name][1:])
        return torch.empty(rows, *sizes)
