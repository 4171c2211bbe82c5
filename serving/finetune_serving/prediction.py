"""What every task that answers without generating has in common: named values in, named tensors out."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

Row = Mapping[str, str]
"""One value of each input tensor."""
Tensor = dict[str, Any]
"""datatype, shape, data and parameters, as the Open Inference Protocol writes them."""


class InputTooLong(ValueError):
    """An input is longer than the model can take."""

    def __init__(self, index: int, length: int, limit: int, unit: str = "tokens") -> None:
        super().__init__(f"{length} {unit}, the model takes {limit}")
        self.index = index
        self.code = "text_too_long" if unit == "tokens" else "input_too_long"


class BadInput(ValueError):
    """A value that cannot be read, such as an image that is none."""

    def __init__(self, index: int, name: str, message: str) -> None:
        super().__init__(message)
        self.index = index
        self.name = name


class Predictor(Protocol):
    """`encode` belongs to the tokenizer's thread, `predict` to the model's."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the input tensors, all of BYTES and the same length."""

    @property
    def warm_up(self) -> Row:
        """A request of the server's own."""

    def encode(self, rows: Sequence[Row], truncate: bool = False) -> list[Any]:
        """Each row as numbers. Raises BadInput, and InputTooLong unless `truncate` cuts what is too long."""

    def predict(self, encodings: Sequence[Any]) -> list[Any]:
        """One prediction an encoding, in one forward pass."""

    def outputs(self, predictions: Sequence[Any]) -> dict[str, Tensor]:
        """Output tensors by name; with no predictions, tensors of the right datatype and shape but for [0]."""


def texts_within(encodings: list[Mapping[str, list[int]]], limit: int) -> list[Mapping[str, list[int]]]:
    """The encodings, when each has at most `limit` tokens. Raises InputTooLong."""
    for index, encoding in enumerate(encodings):
        if len(encoding["input_ids"]) > limit:
            raise InputTooLong(index, len(encoding["input_ids"]), limit)
    return encodings
