"""Request bodies: JSON, or YAML where clients send it."""

import contextlib
from typing import Any

import orjson
import yaml
from aiohttp import web

from finetune_local.apiserver.http import protobuf
from finetune_local.apiserver.status_error import StatusError, bad_request, unsupported_media_type

MAX_BODY = 3 * 1024 * 1024  # bytes, the limit of the real server
SUPPORTED = ["application/json", "application/yaml"]
JSON_TYPES = ("application/json", "")
YAML_TYPES = ("application/yaml", "application/apply-patch+yaml")


async def read_object(request: web.Request) -> Any:
    """The decoded body; {} when it is empty. Refuses unknown media types with 415."""
    raw = await read_limited(request)
    if not raw.strip():
        return {}
    kind = media_type(request)
    if kind in YAML_TYPES or kind.endswith("+yaml"):
        return parse_yaml(raw)
    if kind in JSON_TYPES or kind.endswith("+json"):
        return parse_json(raw)
    if kind == protobuf.MEDIA_TYPE:
        return protobuf.decode_body(raw, SUPPORTED)
    raise unsupported_media_type(kind, SUPPORTED)


async def read_limited(request: web.Request) -> bytes:
    raw = await request.read()
    if len(raw) > MAX_BODY:
        raise StatusError(413, "RequestEntityTooLarge", f"Request entity too large: limit is {MAX_BODY}")
    return raw


def media_type(request: web.Request) -> str:
    return request.headers.get("Content-Type", "").partition(";")[0].strip().lower()


def parse_json(raw: bytes) -> Any:
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise bad_request(f"the object provided is unrecognized (must be of type Object): {error}") from error


def parse_yaml(raw: bytes) -> Any:
    """Most clients send JSON under the name of YAML: that is tried first, being much faster."""
    with contextlib.suppress(orjson.JSONDecodeError):
        return orjson.loads(raw)
    try:
        return yaml.load(raw, Loader=JsonLoader)
    except yaml.YAMLError as error:
        raise bad_request(f"error decoding YAML: {error}") from error


class JsonLoader(yaml.SafeLoader):
    """YAML whose dates stay text, as JSON has none."""


JsonLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
