"""What tasks on text have in common: a tokenizer, and a vocabulary that must fit the model's."""

from pathlib import Path
from typing import Any

import numpy as np

from finetune_serving.padding import tell_padding
from finetune_trainer.data.encoded import Encoded
from finetune_trainer.data.parts import Parts
from finetune_trainer.data.rows import Rows
from finetune_trainer.errors import ConfigurationError
from finetune_trainer.models.suitability import is_encoder
from finetune_trainer.models.tokenizer import load_tokenizer


def require_end(tokenizer: Any) -> None:
    """Raises ConfigurationError when a model that writes with this tokenizer could not learn to stop."""
    if tokenizer.eos_token_id is None:
        raise ConfigurationError(
            "model.source: the tokenizer has no end-of-text token, so the model would never learn to stop; "
            "set eos_token in its tokenizer_config.json"
        )


class TextTask:
    """One text a row, of which nothing is a class."""

    unit = "tokens"
    reads_files = False

    def load_processor(self, folder: Path, trust_remote_code: bool = False) -> Any:
        tokenizer = load_tokenizer(folder, trust_remote_code)
        self.check_tokenizer(tokenizer)
        return tokenizer

    def check_tokenizer(self, tokenizer: Any) -> None:
        """Raises ConfigurationError when the tokenizer cannot serve this task; any can, unless a task says more."""

    def labels(self, parts: Parts) -> list[str]:
        return []

    def configure(self, config: Any, processor: Any, labels: list[str]) -> None:
        decoder = not (is_encoder(config) or getattr(config, "is_encoder_decoder", False))
        if decoder or config.pad_token_id is None:  # RoBERTa counts its positions from the padding of its config
            tell_padding(config, processor.pad_token_id)
        rows = getattr(config.get_text_config(), "vocab_size", None)
        if rows is not None and len(processor) > rows:
            raise ConfigurationError(
                f"model.source: the tokenizer has {len(processor)} tokens but the model only {rows} embeddings; "
                "they do not belong together"
            )

    def rows(self, encoded: Encoded, max_length: int) -> Rows:
        return Rows.of_one(np.arange(len(encoded)))
