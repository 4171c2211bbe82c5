"""What the models of other engines than PyTorch have in common."""

from pathlib import Path
from typing import Any, Self

import torch
from transformers import AutoConfig


class ConvertedModel:
    """Called as a model of transformers is, with tensors by name. On processors only, in float32."""

    training = False
    device = torch.device("cpu")
    dtype = torch.float32

    def __init__(self, folder: Path, trust_remote_code: bool = False) -> None:
        self.config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code, local_files_only=True)

    def to(self, device: Any) -> Self:
        """Stays where it is."""
        return self

    def eval(self) -> Self:
        """It knows nothing else."""
        return self

    def train(self, mode: bool = True) -> Self:
        """Goes on answering as in evaluation: there is no dropout in it."""
        return self

    def requires_grad_(self, wanted: bool = True) -> Self:
        """It has no gradients."""
        return self
