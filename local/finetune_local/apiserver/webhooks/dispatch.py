"""Asks the webhooks on behalf of a write: mutating ones one after the other, validating ones together."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import orjson

from finetune_local.apiserver.request_options import DeleteOptions, WriteOptions
from finetune_local.apiserver.revision_store import RevisionStore
from finetune_local.apiserver.status_error import StatusError, bad_request
from finetune_local.apiserver.webhooks.client import CallFailed, WebhookClient
from finetune_local.apiserver.webhooks.matching import Webhook, Webhooks
from finetune_local.apiserver.webhooks.question import Admission, Question, Unanswered
from finetune_local.apiserver.webhooks.review import BadAnswer, Verdict, denial, patched, review_of

log = logging.getLogger(__name__)
Object = dict[str, Any]
T = TypeVar("T")
Options = TypeVar("Options", WriteOptions, DeleteOptions)
MAX_QUESTIONS = 20
"""A write whose object changes under it all the time gives up, as on the real server."""
HARMLESS = ("None", "NoneOnDryRun")


class WebhookAdmission:
    """`admit` runs a write of `Operations` with the webhooks' consent."""

    def __init__(self, store: RevisionStore) -> None:
        self.webhooks = Webhooks(store)
        self.client = WebhookClient()

    async def admit(self, write: Callable[[Any, Options], T], body: Any, options: Options) -> T:
        """`write(body, options)`, as often as it takes; each run gets a fresh copy of `body`."""
        if not self.webhooks.any():
            return write(body, options)
        admission, raw = Admission(lambda one: bool(self.webhooks.of(one))), orjson.dumps(body)
        said: list[str] = []
        for _ in range(MAX_QUESTIONS):
            run = replace(options, admission=admission, warnings=list(options.warnings))
            try:
                result = write(orjson.loads(raw), run)
            except Unanswered as open_question:
                question = open_question.question
                admission.settle(question, await self._answer(question, said))
            else:
                options.warnings[:] = run.warnings + list(dict.fromkeys(said))
                return result
        raise StatusError(500, "InternalError", "the object changed while webhooks looked at it; try again")

    async def _answer(self, question: Question, said: list[str]) -> Object | None:
        hooks = self.webhooks.of(question)
        if question.dry_run:
            for hook in hooks:
                _require_harmless(hook)
        if question.phase == "mutating":
            return await self._mutate(question, hooks, said)
        await self._validate(question, hooks, said)
        return question.new

    async def _mutate(self, question: Question, hooks: list[Webhook], said: list[str]) -> Object | None:
        body = question.new
        seen: dict[str, Object | None] = {}
        for hook in hooks:
            body = await self._one_mutation(question, hook, body, said)
            seen[hook.name] = body
        for hook in hooks:
            if hook.reinvoked and seen[hook.name] != body:
                body = await self._one_mutation(question, hook, body, said)
        return body

    async def _one_mutation(
        self, question: Question, hook: Webhook, body: Object | None, said: list[str]
    ) -> Object | None:
        try:
            verdict = await self._ask(question, hook, body, said)
            if verdict is None or verdict.patch is None or body is None:
                return body
            return patched(body, verdict.patch)
        except BadAnswer as error:
            _tolerate(hook, CallFailed(f"received invalid webhook response: {error}"))
            return body

    async def _validate(self, question: Question, hooks: list[Webhook], said: list[str]) -> None:
        asked = (self._ask(question, hook, question.new, said) for hook in hooks)
        for outcome in await asyncio.gather(*asked, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome

    async def _ask(self, question: Question, hook: Webhook, body: Object | None, said: list[str]) -> Verdict | None:
        """None when the call failed and that does not matter. Raises what the webhook decided."""
        try:
            verdict = await self.client.call(hook, review_of(question, body))
        except CallFailed as failure:
            _tolerate(hook, failure)
            return None
        said += verdict.warnings
        if not verdict.allowed:
            raise denial(hook.name, verdict.status)
        return verdict


def _require_harmless(hook: Webhook) -> None:
    if hook.body.get("sideEffects") not in HARMLESS:
        raise bad_request(f'admission webhook "{hook.name}" does not support dry run')


def _tolerate(hook: Webhook, failure: CallFailed) -> None:
    text = f'failed calling webhook "{hook.name}": {failure}'
    if hook.body.get("failurePolicy", "Fail") != "Ignore":
        raise StatusError(500, "InternalError", f"Internal error occurred: {text}") from failure
    log.warning("%s; failing open", text)
