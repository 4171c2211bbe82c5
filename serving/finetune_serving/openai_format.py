"""How the two kinds of completion write their choices."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from finetune_serving.text_stream import Piece

Choice = dict[str, Any]


@dataclass(frozen=True)
class Format:
    """Names and shapes of one endpoint's answers."""

    prompt_field: str
    """Of a request."""
    id_prefix: str
    object: str
    chunk_object: str
    content: Callable[[str], Choice]
    delta_content: Callable[[str, bool], Choice]

    def choice(self, index: int, text: str, finish_reason: str | None) -> Choice:
        """A whole answer."""
        return {"index": index, **self.content(text), "logprobs": None, "finish_reason": finish_reason}

    def delta(self, index: int, piece: Piece, *, first: bool) -> Choice:
        """A part of an answer."""
        return {
            "index": index,
            **self.delta_content(piece.text, first),
            "logprobs": None,
            "finish_reason": piece.finish_reason,
        }


def _chat_delta(text: str, first: bool) -> Choice:
    return {"delta": ({"role": "assistant"} if first else {}) | {"content": text}}


COMPLETION = Format(
    "prompt",
    "cmpl",
    "text_completion",
    "text_completion",
    lambda text: {"text": text},
    lambda text, first: {"text": text},
)
CHAT = Format(
    "messages",
    "chatcmpl",
    "chat.completion",
    "chat.completion.chunk",
    lambda text: {"message": {"role": "assistant", "content": text}},
    _chat_delta,
)
