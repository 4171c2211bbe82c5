"""An ONNX graph for new tokens, which takes and gives the keys and values of those before them."""

from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import DynamicCache

from finetune_serving.onnx_session import OnnxSession

KEPT, MADE = "past_key_values.{}.{}", "present.{}.{}"
"""Keys and values of a layer before and after the new tokens, (rows, heads, tokens, numbers of a head): names that
optimum gave them, which other runtimes know too."""
KINDS = ("key", "value")


class CachedGraph:
    """Gives logits; a cache that is handed in grows by the new tokens."""

    def __init__(self, folder: Path) -> None:
        self._session = OnnxSession(folder)
        self._layers = sum(name.endswith(f".{KINDS[0]}") for name in self._session.inputs)

    def run(self, given: dict[str, Tensor], cache: DynamicCache | None, rows: int) -> Tensor:
        """Logits of the new tokens, in float32."""
        made = self._session.run(given | self._kept(cache, rows))
        if cache is not None:
            self._keep(cache, made)
        return made["logits"]

    def _kept(self, cache: DynamicCache | None, rows: int) -> dict[str, Tensor]:
        kept = {}
        layers: list[Any] = cache.layers if cache is not None else []
        for number in range(self._layers):
            known = (None, None)
            if number < len(layers) and layers[number].is_initialized:
                known = (layers[number].keys, layers[number].values)
            for kind, tensor in zip(KINDS, known, strict=True):
                name = KEPT.format(number, kind)
                kept[name] = tensor if tensor is not None else self._session.empty(name, rows)
        return kept

    def _keep(self, cache: DynamicCache, made: dict[str, Tensor]) -> None:
        layers: list[Any] = cache.layers
        for number in range(self._layers):
            keys, values = (made[MADE.format(number, kind)] for kind in KINDS)
            if number < len(layers) and layers[number].is_initialized:
                layers[number].keys, layers[number].values = keys, values
            else:
                cache.update(keys, values, number)
