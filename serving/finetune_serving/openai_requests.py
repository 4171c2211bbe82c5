"""Bodies of OpenAI's completion requests. What would change the answer and is not supported is refused, never ignored.

https://platform.openai.com/docs/api-reference/completions, …/chat
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

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
}
"""Fields that we don't have, and the values that mean nothing."""
MAX_STOPS = 4
MAX_PROMPTS = 16


def _as_list(value: Any) -> Any:
    """One stop string may stand for itself."""
    return [] if value is None else [value] if isinstance(value, str) else value


def _as_parts(value: Any) -> Any:
    """A content may be one text, or come in parts."""
    return [{"type": "text", "text": value}] if isinstance(value, str) else value


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
    """What both kinds of request have in common. Fields about accounting, such as `user`, are ignored."""

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
    def token_limit(self) -> int | None:
        return self.max_tokens

    @model_validator(mode="after")
    def only_what_is_supported(self) -> "CompletionFields":
        for name, neutral in UNSUPPORTED.items():
            value = (self.model_extra or {}).get(name)
            if value is not None and value not in neutral:
                raise ValueError(f"{name} is not supported; remove it")
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
    content: Annotated[list[TextPart], BeforeValidator(_as_parts)]

    def plain(self) -> dict[str, str]:
        """As chat templates want it."""
        return {"role": self.role, "content": "".join(part.text for part in self.content)}


class ChatRequest(CompletionFields):
    """Body of /v1/chat/completions."""

    messages: list[ChatMessage] = Field(min_length=1)
    max_completion_tokens: int | None = Field(None, ge=1)

    @property
    def token_limit(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens
