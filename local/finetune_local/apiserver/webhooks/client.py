"""Calls one webhook over HTTPS: its caBundle is what is trusted, timeoutSeconds is what it has."""

import base64
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import aiohttp
import orjson

from finetune_local.apiserver.webhooks.matching import Webhook
from finetune_local.apiserver.webhooks.review import BadAnswer, Verdict, read_verdict

Object = dict[str, Any]
Resolve = Callable[[str, str, int], tuple[str, int] | None]
"""(namespace, Service, port) → address of a ready endpoint."""
DEFAULT_TIMEOUT_SECONDS = 10
MAX_ANSWER_BYTES = 3 * 1024 * 1024


class CallFailed(Exception):
    """The webhook gave no answer that counts; its failurePolicy decides."""


@dataclass(frozen=True)
class Target:
    """Where to connect, and which name the certificate must have."""

    url: str
    server_name: str


class WebhookClient:
    """One connection a call: webhooks of a small cluster are few, and certificates change."""

    def __init__(self) -> None:
        self.resolve: Resolve = lambda _namespace, _name, _port: None

    async def call(self, hook: Webhook, review: Object) -> Verdict:
        """Raises CallFailed."""
        seconds = hook.body.get("timeoutSeconds") or DEFAULT_TIMEOUT_SECONDS
        target = self._target(hook.body["clientConfig"], seconds)
        try:
            answer = await _post(target, trust(hook.body["clientConfig"].get("caBundle") or ""), review, seconds)
            return read_verdict(answer, review["request"]["uid"])
        except TimeoutError:
            raise CallFailed(f'failed to call webhook: Post "{target.url}": context deadline exceeded') from None
        except (aiohttp.ClientError, OSError, ssl.SSLError) as error:
            raise CallFailed(f'failed to call webhook: Post "{target.url}": {error}') from error
        except BadAnswer as error:
            raise CallFailed(f"received invalid webhook response: {error}") from error

    def _target(self, config: Object, seconds: int) -> Target:
        if config.get("url"):
            parts = urlsplit(config["url"])
            return Target(urlunsplit(parts._replace(query=f"timeout={seconds}s")), parts.hostname or "")
        service = config["service"]
        namespace, name, port = service["namespace"], service["name"], service.get("port") or 443
        address = self.resolve(namespace, name, port)
        if address is None:
            raise CallFailed(f'failed to call webhook: no endpoints available for service "{name}"')
        path = service.get("path") or "/"
        return Target(f"https://{address[0]}:{address[1]}{path}?timeout={seconds}s", f"{name}.{namespace}.svc")


async def _post(target: Target, context: ssl.SSLContext, review: Object, seconds: float) -> bytes:
    timeout = aiohttp.ClientTimeout(total=seconds)
    headers = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "kube-apiserver"}
    async with (
        aiohttp.ClientSession(timeout=timeout) as session,
        session.post(
            target.url,
            data=orjson.dumps(review),
            headers=headers,
            ssl=context,
            server_hostname=target.server_name,
            allow_redirects=False,
        ) as response,
    ):
        answer = await response.content.read(MAX_ANSWER_BYTES + 1)
        if response.status != 200:
            raise BadAnswer(f"the server answered {response.status}")
        if len(answer) > MAX_ANSWER_BYTES:
            raise BadAnswer(f"the answer is larger than {MAX_ANSWER_BYTES} bytes")
        return answer


@lru_cache(maxsize=32)
def trust(bundle: str) -> ssl.SSLContext:
    """Of a base64 PEM bundle; an empty one means the machine's own authorities."""
    if not bundle:
        return ssl.create_default_context()
    return ssl.create_default_context(cadata=base64.b64decode(bundle).decode())
