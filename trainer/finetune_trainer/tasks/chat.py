"""Chat turns as tokens; only what the assistant says is learnt, and that it ends there."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import pairwise
from typing import Any

from jinja2 import TemplateError

from finetune_serving.conversation import end_tokens, prompted_tokens, turn_end
from finetune_trainer.data.row import Where
from finetune_trainer.errors import ConfigurationError, DataError
from finetune_trainer.tasks.turns import Turn, is_learnt

LearntTokens = tuple[list[int], list[bool]]
"""Token ids, and which of them are learnt."""
PROBE = "finetune_probe"
"""Name of a tool that no conversation has."""


def conversation_tokens(content: Any, where: Where, tokenizer: Any) -> LearntTokens:
    """Of turns, of `{"turns", "tools"}`, or of (turns of the prompt, turns of the completion): the latter are learnt.

    Raises:
        DataError: The model's template refuses these turns.
        ConfigurationError: It has none, or one that does not tell who says what.
    """
    with template_refusals(where):
        if isinstance(content, tuple):
            before, said = prompted_tokens(tokenizer, *content)
            return [*before, *said], [False] * len(before) + [True] * len(said)
        if isinstance(content, dict):
            return chat_tokens(content["turns"], tokenizer, content["tools"])
        return chat_tokens(content, tokenizer)


@contextmanager
def template_refusals(where: Where) -> Iterator[None]:
    """Names the row that a template cannot write: many know two speakers alone, who take turns."""
    try:
        yield
    except (TemplateError, TypeError) as error:
        raise DataError(
            f"{where}: the model's chat template cannot write these turns: {error}; change the row, or use a model "
            "whose template takes them"
        ) from error
    except ValueError as error:
        raise ConfigurationError(f"model.source: {error}") from error


def chat_tokens(turns: list[Turn], tokenizer: Any, tools: Sequence[dict[str, Any]] = ()) -> LearntTokens:
    """The conversation in the model's own format, with its assistant turns marked as learnt."""
    template, marked = _template(tokenizer)
    given: dict[str, Any] = {"tools": list(tools)} if tools else {}
    if tools and not _shows_tools(tokenizer, str(tokenizer.chat_template)):
        raise ConfigurationError(
            "model.source: the chat template has no place for the tools that the data has; use a model whose template "
            "shows them, or remove the column tools"
        )
    ids, learnt = _by_markers(turns, tokenizer, template, given) if marked else _by_prefixes(turns, tokenizer, given)
    return _with_ends(ids, learnt, is_learnt(turns[-1]), tokenizer)


def _by_markers(turns: list[Turn], tokenizer: Any, template: str | None, given: dict[str, Any]) -> LearntTokens:
    encoded = tokenizer.apply_chat_template(
        turns,
        chat_template=template,
        tokenize=True,
        return_dict=True,
        return_assistant_tokens_mask=True,
        **given,
    )
    flags = [bool(flag) for flag in encoded["assistant_masks"]]
    return list(encoded["input_ids"]), _without_weightless(flags, turns)


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


@lru_cache(maxsize=4)
def _shows_tools(tokenizer: Any, template: str) -> bool:
    turns = [{"role": "user", "content": "a question"}]
    function = {"name": PROBE, "description": "", "parameters": {"type": "object", "properties": {}}}
    tools = [{"type": "function", "function": function}]
    return PROBE in str(tokenizer.apply_chat_template(turns, tools=tools, tokenize=False))


def _by_prefixes(turns: list[Turn], tokenizer: Any, given: dict[str, Any]) -> LearntTokens:
    """For templates without markers: what an assistant turn adds to the conversation before it is learnt.

    Raises:
        ConfigurationError: The template renders earlier turns anew when later ones follow.
    """
    whole = _rendered(tokenizer, turns, **given)
    trained = [False] * len(whole)
    for number, turn in enumerate(turns):
        if not is_learnt(turn):
            continue
        before = _rendered(tokenizer, turns[:number], add_generation_prompt=True, **given)
        after = _rendered(tokenizer, turns[: number + 1], **given)
        if whole[: len(before)] != before or whole[: len(after)] != after:
            raise ConfigurationError(
                "model.source: the chat template has no {% generation %} markers and changes earlier turns when later "
                "ones follow, so the assistant's tokens cannot be told; add the markers to the template"
            )
        trained[len(before) : len(after)] = [True] * (len(after) - len(before))
    return whole, trained


def _rendered(tokenizer: Any, turns: list[dict[str, Any]], **options: Any) -> list[int]:
    return list(tokenizer.apply_chat_template(turns, tokenize=True, return_dict=True, **options)["input_ids"])


def _with_ends(ids: list[int], learnt: list[bool], answered: bool, tokenizer: Any) -> LearntTokens:
    """The end of a turn is learnt with it, whether the template's markers hold it or not; without one, the model would
    never learn to stop (huggingface/trl#1623), so that a template that writes none gets the tokenizer's."""
    end, flags = turn_end(tokenizer), list(learnt)
    for place in range(1, len(ids)):
        if end and flags[place - 1] and not flags[place] and ids[place : place + len(end)] == end:
            flags[place : place + len(end)] = [True] * len(end)
    ends = set(end_tokens(tokenizer))
    if answered and not any(flag and token in ends for token, flag in zip(ids, flags, strict=True)):
        return [*ids, tokenizer.eos_token_id], [*flags, True]
    return ids, flags


def _without_weightless(learnt: list[bool], turns: list[Turn]) -> list[bool]:
    """Answers with the weight 0, as OpenAI has it, are read and not learnt."""
    weights = [is_learnt(turn) for turn in turns if turn["role"] == "assistant"]
    if all(weights):
        return learnt
    edges = [place for place, (a, b) in enumerate(pairwise([False, *learnt, False])) if a != b]
    stretches = list(zip(edges[::2], edges[1::2], strict=True))
    if len(stretches) != len(weights):
        raise TypeError(f"{len(stretches)} stretches are learnt of {len(weights)} answers, so weight 0 has no place")
    flags = list(learnt)
    for (start, end), weight in zip(stretches, weights, strict=True):
        flags[start:end] = [weight] * (end - start)
    return flags
