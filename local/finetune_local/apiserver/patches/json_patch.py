"""JSON patch (RFC 6902) on plain JSON values, with the refusals of the API server."""

from collections.abc import Callable
from typing import Any

import orjson

from finetune_local.apiserver.status_error import StatusError, bad_request, unprocessable

MAX_OPERATIONS = 10_000


def apply_json_patch(document: Any, operations: Any) -> Any:
    """The patched document; `document` may be changed in place. A failed operation is 422, a malformed one 400."""
    if not isinstance(operations, list):
        raise bad_request("json: cannot unmarshal object into Go value of type jsonpatch.Patch")
    if len(operations) > MAX_OPERATIONS:
        raise StatusError(
            413,
            "RequestEntityTooLarge",
            f"The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {len(operations)}",
        )
    for operation in operations:
        document = _apply(document, operation)
    return document


def _apply(document: Any, operation: Any) -> Any:
    if not isinstance(operation, dict) or not isinstance(operation.get("path"), str):
        raise bad_request(f"invalid JSON patch operation: {orjson.dumps(operation).decode()}")
    name = operation.get("op")
    handler = HANDLERS.get(name) if isinstance(name, str) else None
    if handler is None:
        raise bad_request(f"Unexpected kind: {name}")
    return handler(document, operation)


def _tokens(pointer: Any) -> list[str]:
    if not isinstance(pointer, str) or (pointer and not pointer.startswith("/")):
        raise unprocessable(f"the server rejected our request due to an error in our request: bad pointer {pointer!r}")
    return [token.replace("~1", "/").replace("~0", "~") for token in pointer.split("/")[1:]]


def _missing(operation: str, pointer: str) -> StatusError:
    return unprocessable(
        "the server rejected our request due to an error in our request: "
        f"{operation} operation does not apply: doc is missing path: {pointer}: missing value"
    )


def _find(document: Any, tokens: list[str], operation: str, pointer: str) -> Any:
    for token in tokens:
        if isinstance(document, dict) and token in document:
            document = document[token]
        elif isinstance(document, list) and token.isdigit() and int(token) < len(document):
            document = document[int(token)]
        else:
            raise _missing(operation, pointer)
    return document


def _copy(value: Any) -> Any:
    return orjson.loads(orjson.dumps(value))


def _add(document: Any, operation: dict[str, Any]) -> Any:
    if "value" not in operation:
        raise bad_request("add operation needs a value")
    return _insert(document, operation["path"], operation["value"], "add")


def _insert(document: Any, pointer: str, value: Any, name: str) -> Any:
    tokens = _tokens(pointer)
    if not tokens:
        return value
    parent = _find(document, tokens[:-1], name, pointer)
    last = tokens[-1]
    if isinstance(parent, dict):
        parent[last] = value
    elif isinstance(parent, list) and last == "-":
        parent.append(value)
    elif isinstance(parent, list) and last.isdigit() and int(last) <= len(parent):
        parent.insert(int(last), value)
    else:
        raise _missing(name, pointer)
    return document


def _remove(document: Any, operation: dict[str, Any]) -> Any:
    tokens = _tokens(operation["path"])
    if not tokens:
        return None
    parent = _find(document, tokens[:-1], "remove", operation["path"])
    _find(parent, tokens[-1:], "remove", operation["path"])
    if isinstance(parent, dict):
        del parent[tokens[-1]]
    else:
        del parent[int(tokens[-1])]
    return document


def _replace(document: Any, operation: dict[str, Any]) -> Any:
    if "value" not in operation:
        raise bad_request("replace operation needs a value")
    tokens = _tokens(operation["path"])
    if not tokens:
        return operation["value"]
    parent = _find(document, tokens[:-1], "replace", operation["path"])
    _find(parent, tokens[-1:], "replace", operation["path"])
    parent[tokens[-1] if isinstance(parent, dict) else int(tokens[-1])] = operation["value"]
    return document


def _move(document: Any, operation: dict[str, Any]) -> Any:
    value = _find(document, _tokens(operation.get("from")), "move", str(operation.get("from")))
    document = _remove(document, {"path": operation["from"]})
    return _insert(document, operation["path"], value, "move")


def _duplicate(document: Any, operation: dict[str, Any]) -> Any:
    value = _find(document, _tokens(operation.get("from")), "copy", str(operation.get("from")))
    return _insert(document, operation["path"], _copy(value), "copy")


def _test(document: Any, operation: dict[str, Any]) -> Any:
    try:
        value = _find(document, _tokens(operation["path"]), "test", operation["path"])
    except StatusError:
        value = None
    if value != operation.get("value") or isinstance(value, bool) != isinstance(operation.get("value"), bool):
        raise unprocessable(
            "the server rejected our request due to an error in our request: "
            f"testing value {operation['path']} failed: test failed"
        )
    return document


HANDLERS: dict[str, Callable[[Any, dict[str, Any]], Any]] = {
    "add": _add,
    "remove": _remove,
    "replace": _replace,
    "move": _move,
    "copy": _duplicate,
    "test": _test,
}
