"""Bodies of OpenAI's completion requests. What would change the answer and is not supported is refused, never ignored.

https://platform.openai.com/docs/api-reference/completions, …/chat
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from finetune_api.spelling import closest
from finetune_serving.whole_text import WholeText, whole_text

UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "best_of": (1,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "echo": (False,),
    "suffix": ("",),
    "logit_bias": ({},),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "audio": (),
    "top_k": (-1, 0),
    "min_p": (0,),
    "min_tokens": (0,),
    "repetition_penalty": (1,),
    "stop_token_ids": ([],),
    "ignore_eos": (False,),
    "use_beam_search": (False,),
    "length_penalty": (1,),
    "skip_special_tokens": (True,),
    "spaces_between_special_tokens": (True,),
    "include_stop_str_in_output": (False,),
    "add_generation_prompt": (True,),
    "continue_final_message": (False,),
    "priority": (0,),
}
"""Fields of OpenAI's API, and of vLLM's, that we don't have, and the values that mean nothing."""
WITHOUT_EFFECT = frozenset(
    {
        "user",
        "metadata",
        "store",
        "service_tier",
        "safety_identifier",
        "prompt_cache_key",
        "prompt_cache_retention",
        "parallel_tool_calls",
        "prediction",
    }
)
"""Fields about accounting, and about speed, which are taken and do nothing."""
MAX_STOPS = 4
MAX_PROMPTS = 16


def _as_list(value: Any) -> Any:
    """One stop string may stand for itself."""
    return [] if value is None else [value] if isinstance(value, str) else value


def _as_parts(value: Any) -> Any:
    """A content may be one text, or come in parts."""
    return [{"type": "text", "text": value}] if isinstance(value, str) else value


def _not_supported(value: Any) -> None:
    if value:
        raise ValueError("is not supported; write what was called into content")


NoCalls = Annotated[None, BeforeValidator(_not_supported)]
Stops = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=256)]],
    BeforeValidator(_as_list),
    Field(max_length=MAX_STOPS),
]


class StreamOptions(BaseModel):
    """`include_usage` adds a last chunk with the token counts."""

    model_config = ConfigDict(extra="ignore")

    include_usage: bool = False


class CompletionFields(BaseModel):
    """What both kinds of request have in common."""

    model_config = ConfigDict(extra="allow")

    model: str
    temperature: float = Field(1.0, ge=0, le=2)
    top_p: float = Field(1.0, gt=0, le=1)
    max_tokens: int | None = Field(None, ge=1)
    stop: Stops = Field(default_factory=list)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    stream: bool = False
    stream_options: StreamOptions | None = None

    @property
    def token_limit(self) -> tuple[str, int | None]:
        """Its field, and its value."""
        return "max_tokens", self.max_tokens

    @model_validator(mode="after")
    def only_what_is_supported(self) -> "CompletionFields":
        for name, value in (self.model_extra or {}).items():
            if value is None or name in WITHOUT_EFFECT or value in UNSUPPORTED.get(name, ()):
                continue
            if name in UNSUPPORTED:
                raise ValueError(f"{name} is not supported; remove it")
            meant = closest(name, [*type(self).model_fields])
            raise ValueError(f"{name} is not supported; {f'did you mean {meant!r}?' if meant else 'remove it'}")
        return self


class CompletionRequest(CompletionFields):
    """Body of /v1/completions. A prompt is a text, several texts, or token ids."""

    prompt: str | list[int] | list[str]

    @field_validator("prompt", mode="before")
    @classmethod
    def one_of_three_kinds(cls, value: Any) -> Any:
        if isinstance(value, str):
            return whole_text(value)
        if isinstance(value, list) and value:
            if all(type(item) is int for item in value):
                return value
            if all(isinstance(item, str) for item in value) and len(value) <= MAX_PROMPTS:
                return [whole_text(item) for item in value]
        raise ValueError(f"must be a text, 1 to {MAX_PROMPTS} texts, or a list of token ids")


class TextPart(BaseModel):
    """A part of a message; other types than text are not supported."""

    type: Literal["text"]
    text: WholeText


class ChatMessage(BaseModel):
    """A turn. Its content may come in parts."""

    model_config = ConfigDict(extra="ignore")

    role: str = Field(min_length=1, max_length=32)
    tool_calls: NoCalls = None
    function_call: NoCalls = None
    content: Annotated[list[TextPart], BeforeValidator(_as_parts)]

    def plain(self) -> dict[str, str]:
        """As chat templates want it."""
        return {"role": self.role, "content": "".join(part.text for part in self.content)}


class ChatRequest(CompletionFields):
    """Body of /v1/chat/completions."""

    messages: list[ChatMessage] = Field(min_length=1)
    max_completion_tokens: int | None = Field(None, ge=1)

    @property
    def token_limit(self) -> tuple[str, int | None]:
        """The newer name first."""
        if self.max_completion_tokens is not None:
            return "max_completion_tokens", self.max_completion_tokens
        return super().token_limit
