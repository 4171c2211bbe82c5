"""OpenAI's /v1/models, /v1/completions and /v1/chat/completions for TextGeneration."""

import asyncio
import json
import logging
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse, StreamingResponse
from jinja2 import TemplateError

from finetune_serving.compute import SerialThread
from finetune_serving.conversation import NoChatTemplate
from finetune_serving.errors import RequestError, bad_request, error_body
from finetune_serving.generation import Generator, Sampling
from finetune_serving.openai_format import CHAT, COMPLETION, Format
from finetune_serving.openai_requests import ChatRequest, CompletionFields, CompletionRequest
from finetune_serving.settings import Settings
from finetune_serving.text_stream import Piece, TextStreamer

log = logging.getLogger(__name__)

DEFAULT_COMPLETION_TOKENS = 16
"""OpenAI's default for /v1/completions; a chat may fill the context."""


@dataclass
class Completion:
    """One request being answered."""

    format: Format
    model: str
    prompts: list[list[int]]
    sampling: list[Sampling]
    stops: list[str]
    include_usage: bool = False
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    created: int = field(default_factory=lambda: int(time.time()))
    generated: int = 0

    @property
    def usage(self) -> dict[str, int]:
        prompt = sum(len(tokens) for tokens in self.prompts)
        return {
            "prompt_tokens": prompt,
            "completion_tokens": self.generated,
            "total_tokens": prompt + self.generated,
        }

    @property
    def head(self) -> dict[str, Any]:
        return {"id": f"{self.format.id_prefix}-{self.id}", "created": self.created, "model": self.model}


class OpenAIService:
    """From a validated request to its answer."""

    def __init__(
        self, settings: Settings, generator: Generator, streamer: TextStreamer, tokenizing: SerialThread
    ) -> None:
        self._settings = settings
        self._generator = generator
        self._streamer = streamer
        self._tokenizing = tokenizing

    async def complete(self, request: CompletionRequest) -> Response:
        prompts = await self._prompts(request.prompt)
        return await self._answer(COMPLETION, request, prompts, DEFAULT_COMPLETION_TOKENS)

    async def chat(self, request: ChatRequest) -> Response:
        messages = [message.plain() for message in request.messages]
        try:
            tokens = await self._tokenizing.run(self._generator.encode_chat, messages)
        except NoChatTemplate as error:
            raise bad_request("messages", str(error), "no_chat_template") from error
        except (TemplateError, ValueError) as error:
            raise bad_request("messages", f"the chat template refuses them: {error}") from error
        return await self._answer(CHAT, request, [tokens], None)

    async def _prompts(self, prompt: str | list[int] | list[str]) -> list[list[int]]:
        texts = [prompt] if isinstance(prompt, str) else prompt
        if isinstance(texts[0], int):
            return [self._known([int(token) for token in texts])]
        return [await self._tokenizing.run(self._generator.encode, str(text)) for text in texts]

    def _known(self, tokens: list[int]) -> list[int]:
        for index, token in enumerate(tokens):
            if not 0 <= token < self._generator.vocabulary:
                raise bad_request(f"prompt[{index}]", f"must be below {self._generator.vocabulary}; got {token}")
        return tokens

    async def _answer(
        self, format: Format, request: CompletionFields, prompts: list[list[int]], default_tokens: int | None
    ) -> Response:
        if request.model != self._settings.model.name:
            raise RequestError(
                404,
                "model_not_found",
                f"model {request.model!r} is not served here; use {self._settings.model.name!r}",
                field="model",
            )
        completion = Completion(
            format=format,
            model=request.model,
            prompts=prompts,
            sampling=[self._sampling(format, request, prompt, default_tokens) for prompt in prompts],
            stops=request.stop,
            include_usage=bool(request.stream_options and request.stream_options.include_usage),
        )
        if request.stream:
            return StreamingResponse(self._events(completion), media_type="text/event-stream")
        return JSONResponse(await self._whole(completion))

    def _sampling(self, format: Format, request: CompletionFields, prompt: list[int], default: int | None) -> Sampling:
        room = self._generator.context_length - len(prompt)
        if room < 1:
            raise bad_request(
                format.prompt_field,
                f"{len(prompt)} tokens leave no room in a context of {self._generator.context_length}; shorten it",
                "context_length_exceeded",
            )
        field, wanted = request.token_limit
        if wanted is not None and wanted > room:
            raise bad_request(
                field,
                f"{wanted} tokens after a prompt of {len(prompt)} exceed the context of "
                f"{self._generator.context_length}; ask for at most {room}",
                "context_length_exceeded",
            )
        return Sampling(wanted or min(default or room, room), request.temperature, request.top_p, request.seed)

    async def _pieces(self, completion: Completion) -> AsyncGenerator[tuple[int, Piece], None]:
        """Text of one prompt after the other."""
        for index, prompt in enumerate(completion.prompts):
            before = completion.generated
            async with aclosing(self._streamer.stream(prompt, completion.sampling[index], completion.stops)) as pieces:
                async for piece in pieces:
                    completion.generated = before + piece.tokens
                    yield index, piece

    async def _whole(self, completion: Completion) -> dict[str, Any]:
        texts = [""] * len(completion.prompts)
        reasons: list[str | None] = [None] * len(completion.prompts)
        async with aclosing(self._pieces(completion)) as pieces:
            async for index, piece in pieces:
                texts[index] += piece.text
                reasons[index] = piece.finish_reason
        choices = [
            completion.format.choice(index, text, reason)
            for index, (text, reason) in enumerate(zip(texts, reasons, strict=True))
        ]
        return completion.head | {
            "object": completion.format.object,
            "choices": choices,
            "usage": completion.usage,
        }

    async def _events(self, completion: Completion) -> AsyncIterator[bytes]:
        """Server-sent events. An error after the first byte can only be an event too."""
        try:
            async with asyncio.timeout(self._settings.limits.request_timeout):
                async with aclosing(self._chunks(completion)) as chunks:
                    async for chunk in chunks:
                        yield _event(chunk)
        except TimeoutError:
            seconds = self._settings.limits.request_timeout
            yield _error_event(RequestError(504, "timeout", f"the answer took longer than {seconds:g} s"))
        except Exception as error:
            log.exception("a stream failed")
            yield _error_event(RequestError(500, "internal_error", f"the model failed: {type(error).__name__}"))
        else:
            yield b"data: [DONE]\n\n"

    async def _chunks(self, completion: Completion) -> AsyncGenerator[dict[str, Any], None]:
        head = completion.head | {"object": completion.format.chunk_object}
        started: set[int] = set()
        async with aclosing(self._pieces(completion)) as pieces:
            async for index, piece in pieces:
                if not piece.text and piece.finish_reason is None:
                    continue
                choice = completion.format.delta(index, piece, first=index not in started)
                started.add(index)
                yield head | {"choices": [choice]}
        if completion.include_usage:
            yield head | {"choices": [], "usage": completion.usage}


def _event(body: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(body, ensure_ascii=False, separators=(',', ':'))}\n\n".encode()


def _error_event(error: RequestError) -> bytes:
    return _event(error_body("/v1/", error))


def openai_router(settings: Settings, service: OpenAIService) -> APIRouter:
    """The routes of the one model that is served."""
    router = APIRouter(prefix="/v1", tags=["OpenAI"])
    started = int(time.time())
    model = {
        "id": settings.model.name,
        "object": "model",
        "created": started,
        "owned_by": "finetune-operator",
        "version": settings.model.version,
    }

    @router.get("/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [model]}

    @router.get("/models/{name}")
    async def one_model(name: str) -> dict[str, Any]:
        if name != settings.model.name:
            message = f"model {name!r} is not served here; use {settings.model.name!r}"
            raise RequestError(404, "model_not_found", message)
        return model

    @router.post("/completions")
    async def completions(request: CompletionRequest) -> Response:
        return await service.complete(request)

    @router.post("/chat/completions")
    async def chat_completions(request: ChatRequest) -> Response:
        return await service.chat(request)

    return router
