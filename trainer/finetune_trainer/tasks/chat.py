"""Chat turns as tokens; only what the assistant says is learnt."""

from functools import lru_cache
from typing import Any

from finetune_trainer.errors import ConfigurationError
from finetune_trainer.tasks.text_layouts import Turn

LearntTokens = tuple[list[int], list[bool]]
"""Token ids, and which of them are learnt."""


def chat_tokens(turns: list[Turn], tokenizer: Any) -> LearntTokens:
    """The conversation in the model's own format, with its assistant turns marked as learnt."""
    template, marked = _template(tokenizer)
    if not marked:
        return _by_prefixes(turns, tokenizer)
    encoded = tokenizer.apply_chat_template(
        turns,
        chat_template=template,
        tokenize=True,
        return_dict=True,
        return_assistant_tokens_mask=True,
    )
    return list(encoded["input_ids"]), [bool(flag) for flag in encoded["assistant_masks"]]


@lru_cache(maxsize=4)
def _template(tokenizer: Any) -> tuple[str | None, bool]:
    """A template with generation markers, ours or TRL's, and whether there is one."""
    if not tokenizer.chat_template:
        raise ConfigurationError(
            "model.source: the tokenizer has no chat template, so messages have no form; use an instruction-tuned "
            "model, or data with prompt and completion"
        )
    # TRL brings datasets and pandas, seconds of every start; only conversations need it.
    from trl.chat_template_utils import get_training_chat_template

    try:
        return get_training_chat_template(tokenizer) or tokenizer.chat_template, True
    except ValueError:
        return None, False


def _by_prefixes(turns: list[Turn], tokenizer: Any) -> LearntTokens:
    """For templates without markers: what an assistant turn adds to the conversation before it is learnt.

    Raises:
        ConfigurationError: The template renders earlier turns anew when later ones follow.
    """
    whole = _rendered(tokenizer, turns)
    trained = [False] * len(whole)
    for number, turn in enumerate(turns):
        if turn["role"] != "assistant":
            continue
        before = _rendered(tokenizer, turns[:number], add_generation_prompt=True)
        after = _rendered(tokenizer, turns[: number + 1])
        if whole[: len(before)] != before or whole[: len(after)] != after:
            raise ConfigurationError(
                "model.source: the chat template has no {% generation %} markers and changes earlier turns when later "
                "ones follow, so the assistant's tokens cannot be told; add the markers to the template"
            )
        trained[len(before) : len(after)] = [True] * (len(after) - len(before))
    return whole, trained


def _rendered(tokenizer: Any, turns: list[dict[str, Any]], **options: Any) -> list[int]:
    return list(tokenizer.apply_chat_template(turns, tokenize=True, return_dict=True, **options)["input_ids"])
