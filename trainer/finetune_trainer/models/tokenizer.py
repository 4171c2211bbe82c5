"""The tokenizer of a model folder."""

import re
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from finetune_trainer.errors import ConfigurationError

CHAT_DATE = date(2024, 7, 26)
"""The date that Llama 3's templates have where there is no clock."""
TODAY = re.compile(r"""strftime_now\(\s*(?P<quote>["'])(?P<format>.*?)(?P=quote)\s*\)""")
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
    fix_date(tokenizer)
    return tokenizer


def fix_date(tokenizer: Any) -> None:
    """Chat templates that print today's date print the same one whatever the day: a run that goes on tomorrow, or a
    job that is run again, has to read the same tokens. The tokenizer's own template, which is exported, stays.
    """
    render = tokenizer.apply_chat_template

    def dated(turns: Any, tools: Any = None, chat_template: str | None = None, **options: Any) -> Any:
        template = with_date(tokenizer.get_chat_template(chat_template, tools))
        return render(turns, tools=tools, chat_template=template, **options)

    tokenizer.apply_chat_template = dated


@lru_cache(maxsize=16)
def with_date(template: str) -> str:
    """The template with CHAT_DATE in place of today's. Raises ValueError where it asks for it in a way of its own.

    Functions cannot be given to a template: transformers makes text of them.
    """
    fixed = TODAY.sub(lambda found: repr(CHAT_DATE.strftime(found["format"])), template)
    if "strftime_now(" in fixed:
        raise ValueError("the chat template prints today's date in a format that is no constant; write it as one")
    return fixed


def _any_special_token(tokenizer: Any) -> str:
    for token in (tokenizer.unk_token, tokenizer.bos_token, tokenizer.sep_token):
        if token is not None:
            return str(token)
    raise ConfigurationError(
        "model.source: the tokenizer has no special token to pad with; set pad_token in tokenizer_config.json"
    )
