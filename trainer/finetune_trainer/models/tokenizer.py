"""The tokenizer of a model folder."""

from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from finetune_trainer.errors import ConfigurationError

FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "vocab.txt",
    "vocab.json",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tokenizer_config.json",
)


def load_tokenizer(folder: Path, trust_remote_code: bool = False) -> Any:
    """Loads it; one without a padding token pads with its end-of-text token.

    That is safe here: padding never counts in the loss, and the end-of-text token of an example always does.

    Raises:
        ConfigurationError: There is none, or it is damaged.
    """
    if not any((folder / name).exists() for name in FILES):
        raise ConfigurationError(
            f"model.source: {folder} has no tokenizer (one of {', '.join(FILES[:4])} …); "
            "give a folder that holds the model's tokenizer files too"
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            str(folder), trust_remote_code=trust_remote_code, local_files_only=True
        )
    except Exception as error:
        raise ConfigurationError(f"model.source: the tokenizer in {folder} cannot be loaded: {error}") from error
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token or _any_special_token(tokenizer)
    tokenizer.padding_side = "right"
    return tokenizer


def _any_special_token(tokenizer: Any) -> str:
    for token in (tokenizer.unk_token, tokenizer.bos_token, tokenizer.sep_token):
        if token is not None:
            return str(token)
    raise ConfigurationError(
        "model.source: the tokenizer has no special token to pad with; set pad_token in tokenizer_config.json"
    )
