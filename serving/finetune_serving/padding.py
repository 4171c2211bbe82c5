"""Which token a model takes for padding. Trainer and server share it."""

from typing import Any


def tell_padding(config: Any, token: int | None) -> None:
    """Decoders classify at the last token that is not padding: it must be what the tokenizer pads with.

    Some are published with another one (OpenLLaMA's config.json says 0, and its tokenizer has none), others with none.
    """
    for part in (config, config.get_text_config()):
        part.pad_token_id = token
