"""A prompt and what is said to it as tokens, in training and in the server alike: what is judged is what was learnt."""

from functools import lru_cache
from typing import Any

from jinja2 import TemplateError

Turn = dict[str, Any]
ANSWER = "an answer that no template holds"


class NoChatTemplate(ValueError):
    """The tokenizer cannot write chat turns."""


def prompted_tokens(
    tokenizer: Any, prompt: str | list[Turn], completion: str | list[Turn]
) -> tuple[list[int], list[int]]:
    """Token ids of the prompt and of the completion with its end; two texts, or two lists of turns.

    An encoder without an end token gets them as a pair of texts, as it was pre-trained.

    Raises:
        NoChatTemplate: Turns for a tokenizer without a template.
        ValueError: The template changes the prompt's turns when others follow.
    """
    if isinstance(prompt, list) and isinstance(completion, list):
        return _chat(tokenizer, prompt, completion)
    if tokenizer.eos_token_id is None:
        pair = tokenizer(prompt, completion, verbose=False)
        first = sum(part != 1 for part in pair.sequence_ids(0)[:-1])
        return pair["input_ids"][:first], pair["input_ids"][first:]
    before = tokenizer(prompt, verbose=False)["input_ids"]
    said = tokenizer(completion, add_special_tokens=False, verbose=False)["input_ids"]
    end = tokenizer.eos_token_id
    before = before[:-1] if before and before[-1] == end else before
    return before, said if said and said[-1] == end else [*said, end]


def _ended(said: list[int], tokenizer: Any) -> list[int]:
    """With an end, which some templates write none of."""
    ends = end_tokens(tokenizer)
    return said if any(token in ends for token in said) else [*said, *ends[:1]]


def prompt_tokens(tokenizer: Any, prompt: str | list[Turn]) -> list[int]:
    """Token ids of a prompt that the model is to continue. Raises NoChatTemplate."""
    if isinstance(prompt, list):
        return _rendered(tokenizer, prompt, add_generation_prompt=True)
    ids: list[int] = tokenizer(prompt, verbose=False)["input_ids"]
    return ids[:-1] if ids and ids[-1] == tokenizer.eos_token_id else ids


def end_tokens(tokenizer: Any) -> list[int]:
    """Token ids that end what is written: the tokenizer's own, and the one that ends a turn of a chat.

    Base models are published with templates whose turns end with a token that is neither the tokenizer's nor in
    generation_config.json (Qwen's <|im_end|>, Gemma's <end_of_turn>): it is learnt, and so must be stopped at.
    """
    own = tokenizer.eos_token_id
    return list(dict.fromkeys([*([] if own is None else [own]), *turn_end(tokenizer)[-1:]]))


def turn_end(tokenizer: Any) -> list[int]:
    """What the chat template writes behind an answer, up to the token that ends the turn; [] where there is none."""
    return list(_turn_end(tokenizer, str(tokenizer.chat_template))) if tokenizer.chat_template else []


@lru_cache(maxsize=4)
def _turn_end(tokenizer: Any, template: str) -> tuple[int, ...]:
    turns = [{"role": "user", "content": "a question"}, {"role": "assistant", "content": ANSWER}]
    try:
        text = str(tokenizer.apply_chat_template(turns, tokenize=False))
    except TemplateError:  # it wants other turns than these
        return ()
    behind: list[int] = tokenizer(text.rpartition(ANSWER)[2], add_special_tokens=False)["input_ids"]
    added = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    begins = {tokenizer.unk_token_id, tokenizer.bos_token_id} - {tokenizer.eos_token_id}
    ends = {*added, *tokenizer.all_special_ids} - begins
    place = next((place for place, token in enumerate(behind) if token in ends), None)
    if place is None or tokenizer.decode(behind[:place]).strip():
        return ()
    return tuple(behind[: place + 1])


def _chat(tokenizer: Any, prompt: list[Turn], completion: list[Turn]) -> tuple[list[int], list[int]]:
    whole = _rendered(tokenizer, [*prompt, *completion])
    # Some templates put what a model shall think before its answer into the generation prompt alone.
    for asks in (True, False):
        before = _rendered(tokenizer, prompt, add_generation_prompt=asks)
        if whole[: len(before)] == before and len(whole) > len(before):
            return before, _ended(whole[len(before) :], tokenizer)
    raise ValueError(
        "the chat template changes earlier turns when later ones follow, so prompt and answer are not told"
    )


def _rendered(tokenizer: Any, turns: list[Turn], **options: Any) -> list[int]:
    if not tokenizer.chat_template:
        raise NoChatTemplate(
            "the tokenizer has no chat template, so turns have no form; use an instruction-tuned model, or plain texts"
        )
    return list(tokenizer.apply_chat_template(turns, tokenize=True, return_dict=True, **options)["input_ids"])
