"""Writing text with a causal language model."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from transformers import StoppingCriteria, StoppingCriteriaList
from transformers.generation.streamers import BaseStreamer

from finetune_serving.conversation import NoChatTemplate, end_tokens
from finetune_serving.loading import LoadedModel

LIKELIEST_BELOW = 1e-5
"""Of a temperature, as in vLLM: logits that are divided by less overflow."""


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen, and when to end."""

    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int | None = None


class Generator:
    """`encode…` and `decode` belong to the tokenizer's thread, `generate` to the model's."""

    def __init__(self, loaded: LoadedModel) -> None:
        self._model = loaded.model
        self._tokenizer = loaded.processor
        self.task = loaded.description.task
        self.context_length = loaded.max_length
        self.vocabulary: int = loaded.model.config.get_text_config().vocab_size
        self.end_tokens = _end_tokens(loaded)

    def encode(self, text: str) -> list[int]:
        """Token ids of a plain prompt; an empty one begins with the begin-of-text token."""
        tokens: list[int] = self._tokenizer(text)["input_ids"]
        first = self._tokenizer.bos_token_id
        return tokens or ([first] if first is not None else self.end_tokens[:1])

    def encode_chat(self, messages: Sequence[dict[str, str]]) -> list[int]:
        """Token ids of a chat with the answer opened. Raises NoChatTemplate, or ValueError by the template."""
        if not self._tokenizer.chat_template:
            raise NoChatTemplate("the model has no chat template; use /v1/completions")
        text = self._tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True)
        # The template writes the special tokens itself.
        tokens: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return tokens

    def decode(self, tokens: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(tokens), skip_special_tokens=True))

    @torch.inference_mode()
    def generate(
        self,
        prompt: Sequence[int],
        sampling: Sampling,
        on_token: Callable[[int], None],
        cancelled: threading.Event,
    ) -> None:
        """Calls `on_token` for each new token, the end token included; returns early when `cancelled` is set."""
        if cancelled.is_set():
            return
        ids = torch.tensor([list(prompt)], device=self._model.device)
        with torch.random.fork_rng(enabled=sampling.seed is not None):
            if sampling.seed is not None:
                torch.manual_seed(sampling.seed)
            self._model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=sampling.max_tokens,
                streamer=_TokenStreamer(on_token),
                stopping_criteria=StoppingCriteriaList([_Cancelled(cancelled)]),
                pad_token_id=self._tokenizer.pad_token_id,
                eos_token_id=self.end_tokens or None,
                forced_eos_token_id=None,  # BART's takes the place of the last token of what is cut off by max_tokens
                **_choice(sampling),
            )


def _choice(sampling: Sampling) -> dict[str, Any]:
    """Temperature 0 means the likeliest token. `top_k` is set because a model's own default may cut the choice, and one
    beam because those of summarisers and translators ask for several, of which no token is certain before the end."""
    if sampling.temperature < LIKELIEST_BELOW:
        return {"num_beams": 1, "do_sample": False, "temperature": None, "top_p": None, "top_k": None}
    chosen = {"temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": 0}
    return {"num_beams": 1, "do_sample": True, **chosen}


def _end_tokens(loaded: LoadedModel) -> list[int]:
    """What the model was pre-trained to end with, and what it was fine-tuned to: base models are often published with
    one in generation_config.json and others in the tokenizer and its chat template."""
    configured = getattr(loaded.model.generation_config, "eos_token_id", None)
    ends = list(configured) if isinstance(configured, (list, tuple)) else [configured]
    return list(dict.fromkeys(int(end) for end in (*ends, *end_tokens(loaded.processor)) if end is not None))


class _OfOneCall:
    """PEFT copies all that virtual tokens of a sequence-to-sequence model are given; these speak to somebody else."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self


class _TokenStreamer(_OfOneCall, BaseStreamer):
    """Passes new tokens on. The first call brings the prompt."""

    def __init__(self, on_token: Callable[[int], None]) -> None:
        self._on_token = on_token
        self._prompt_seen = False

    def put(self, value: torch.Tensor) -> None:
        if not self._prompt_seen:
            self._prompt_seen = True
            return
        for token in value.flatten().tolist():
            self._on_token(token)

    def end(self) -> None:
        """Nothing to flush."""


class _Cancelled(_OfOneCall, StoppingCriteria):
    """Ends the loop after the current token."""

    def __init__(self, cancelled: threading.Event) -> None:
        self._cancelled = cancelled

    def __call__(self, input_ids: torch.LongTensor, scores: Any, **kwargs: Any) -> torch.BoolTensor:
        stop = self._cancelled.is_set()
        return torch.full((input_ids.shape[0],), stop, device=input_ids.device, dtype=torch.bool)  # type: ignore[return-value]
