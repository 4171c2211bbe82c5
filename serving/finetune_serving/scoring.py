"""Scoring completions with a reward model."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jinja2 import TemplateError

from finetune_serving.conversation import NoChatTemplate, Turn, prompted_tokens
from finetune_serving.loading import LoadedModel
from finetune_serving.prediction import BadInput, Row, Tensor, texts_within

PROMPT, COMPLETION = "prompt", "completion"
Encoding = Mapping[str, list[int]]


class CompletionScorer:
    """One number a completion: the greater, the better it answers its prompt.

    A prompt that is a JSON list of `{role, content}` is taken as turns of a chat, and the completion, a text or such a
    list, as what follows.
    """

    inputs = (PROMPT, COMPLETION)
    warm_up: Row = {PROMPT: "warm-up", COMPLETION: "warm-up"}

    def __init__(self, loaded: LoadedModel) -> None:
        self._model = loaded.model
        self._tokenizer = loaded.processor
        self._limit = loaded.max_length

    def encode(self, rows: Sequence[Row], truncate: bool = False) -> list[Encoding]:
        encodings = [self._encoded(index, row) for index, row in enumerate(rows)]
        if truncate:
            encodings = [{"input_ids": encoding["input_ids"][: self._limit]} for encoding in encodings]
        return texts_within(encodings, self._limit)

    def _encoded(self, index: int, row: Row) -> Encoding:
        prompt, completion = conversation(row[PROMPT], row[COMPLETION])
        try:
            return {"input_ids": self._tokens(prompt, completion)}
        except NoChatTemplate as error:
            raise BadInput(index, PROMPT, str(error)) from error
        except (TemplateError, ValueError) as error:
            raise BadInput(index, COMPLETION, f"the chat template refuses these turns: {error}") from error

    def start_of(self, prompt: str | list[Turn], completion: str) -> Encoding:
        """Prompt and completion as far as the model can read them. Raises ValueError as `prompted_tokens` does."""
        said = completion if isinstance(prompt, str) else [{"role": "assistant", "content": completion}]
        return {"input_ids": self._tokens(prompt, said)[: self._limit]}

    def _tokens(self, prompt: str | list[Turn], completion: str | list[Turn]) -> list[int]:
        before, said = prompted_tokens(self._tokenizer, prompt, completion)
        return [*before, *said]

    @torch.inference_mode()
    def predict(self, encodings: Sequence[Encoding]) -> list[float]:
        batch = self._tokenizer.pad([dict(encoding) for encoding in encodings], return_tensors="pt")
        scores: list[float] = self._model(**batch.to(self._model.device)).logits[:, 0].float().tolist()
        return scores

    def outputs(self, predictions: Sequence[float]) -> dict[str, Tensor]:
        return {"score": {"datatype": "FP32", "shape": [len(predictions)], "data": list(predictions)}}


def conversation(prompt: str, completion: str) -> tuple[str | list[Turn], str | list[Turn]]:
    """Two texts, or two lists of turns where the prompt is one."""
    turns = _turns(prompt)
    if turns is None:
        return prompt, completion
    return turns, _turns(completion) or [{"role": "assistant", "content": completion}]


def _turns(text: str) -> list[Turn] | None:
    if not text.lstrip().startswith("["):
        return None
    try:
        value: Any = json.loads(text)
    except json.JSONDecodeError:
        return None
    are_turns = isinstance(value, list) and value and all(isinstance(t, dict) and "role" in t for t in value)
    return value if are_turns else None
