"""Protobuf bodies of the small kinds that kubectl's typed commands send (create configmap, create token, auth can-i).

Field numbers are those of generated.proto in k8s.io/api; other kinds are refused with 415, and JSON serves them all.
"""

import base64
from collections.abc import Iterator
from typing import Any

from finetune_local.apiserver.status_error import bad_request, unsupported_media_type

Object = dict[str, Any]
MEDIA_TYPE = "application/vnd.kubernetes.protobuf"
MAGIC = b"k8s\x00"
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5

# message: {field number: (JSON name, type)}; "[]" repeats, "{}" is a map from text, capitals name a message.
MESSAGES: dict[str, dict[int, tuple[str, str]]] = {
    "ObjectMeta": {
        1: ("name", "string"),
        2: ("generateName", "string"),
        3: ("namespace", "string"),
        5: ("uid", "string"),
        6: ("resourceVersion", "string"),
        11: ("labels", "{}string"),
        12: ("annotations", "{}string"),
        14: ("finalizers", "[]string"),
    },
    "ConfigMap": {2: ("data", "{}string"), 3: ("binaryData", "{}bytes"), 4: ("immutable", "bool")},
    "Secret": {
        2: ("data", "{}bytes"),
        3: ("type", "string"),
        4: ("stringData", "{}string"),
        5: ("immutable", "bool"),
    },
    "Namespace": {},
    "ServiceAccount": {4: ("automountServiceAccountToken", "bool")},
    "SelfSubjectReview": {},
    "SelfSubjectAccessReview": {2: ("spec", "AccessSpec")},
    "SubjectAccessReview": {2: ("spec", "AccessSpec")},
    "LocalSubjectAccessReview": {2: ("spec", "AccessSpec")},
    "AccessSpec": {
        1: ("resourceAttributes", "ResourceAttributes"),
        2: ("nonResourceAttributes", "NonResourceAttributes"),
        3: ("user", "string"),
        4: ("groups", "[]string"),
        6: ("uid", "string"),
    },
    "ResourceAttributes": {
        1: ("namespace", "string"),
        2: ("verb", "string"),
        3: ("group", "string"),
        4: ("version", "string"),
        5: ("resource", "string"),
        6: ("subresource", "string"),
        7: ("name", "string"),
    },
    "NonResourceAttributes": {1: ("path", "string"), 2: ("verb", "string")},
    "SelfSubjectRulesReview": {2: ("spec", "RulesSpec")},
    "RulesSpec": {1: ("namespace", "string")},
    "TokenRequest": {2: ("spec", "TokenSpec")},
    "TokenSpec": {
        1: ("audiences", "[]string"),
        3: ("boundObjectRef", "BoundObject"),
        4: ("expirationSeconds", "int"),
    },
    "BoundObject": {1: ("kind", "string"), 2: ("apiVersion", "string"), 3: ("name", "string"), 4: ("uid", "string")},
    "Role": {2: ("rules", "[]PolicyRule")},
    "ClusterRole": {2: ("rules", "[]PolicyRule")},
    "PolicyRule": {
        1: ("verbs", "[]string"),
        2: ("apiGroups", "[]string"),
        3: ("resources", "[]string"),
        4: ("resourceNames", "[]string"),
        5: ("nonResourceURLs", "[]string"),
    },
    "RoleBinding": {2: ("subjects", "[]Subject"), 3: ("roleRef", "RoleRef")},
    "ClusterRoleBinding": {2: ("subjects", "[]Subject"), 3: ("roleRef", "RoleRef")},
    "Subject": {1: ("kind", "string"), 2: ("apiGroup", "string"), 3: ("name", "string"), 4: ("namespace", "string")},
    "RoleRef": {1: ("apiGroup", "string"), 2: ("kind", "string"), 3: ("name", "string")},
    "Eviction": {2: ("deleteOptions", "DeleteOptions")},
    "DeleteOptions": {
        1: ("gracePeriodSeconds", "int"),
        2: ("preconditions", "Preconditions"),
        3: ("orphanDependents", "bool"),
        4: ("propagationPolicy", "string"),
        5: ("dryRun", "[]string"),
    },
    "Preconditions": {1: ("uid", "string"), 2: ("resourceVersion", "string")},
}
NOT_OBJECTS = ("DeleteOptions",)
TYPE_META = {1: ("apiVersion", "string"), 2: ("kind", "string")}


def decode_body(raw: bytes, supported: list[str]) -> Object:
    """The JSON form of a body in the envelope k8s.io/apimachinery runtime.Unknown."""
    if not raw.startswith(MAGIC):
        raise bad_request("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")
    try:
        envelope = {number: value for number, _, value in _fields(raw[len(MAGIC) :])}
        identity = _message(TYPE_META, envelope[1])
        fields = MESSAGES.get(identity.get("kind", ""))
        if fields is None:
            raise unsupported_media_type(MEDIA_TYPE, supported)
        if identity["kind"] not in NOT_OBJECTS:
            fields = {1: ("metadata", "ObjectMeta")} | fields
        return identity | _message(fields, envelope.get(2, b""))
    except (IndexError, KeyError, UnicodeDecodeError) as error:
        raise bad_request(f"unable to decode the protobuf body: {error}") from error


def _varint(raw: bytes, position: int) -> tuple[int, int]:
    result = shift = 0
    while True:
        byte = raw[position]
        position += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result, position
        shift += 7


def _fields(raw: bytes) -> Iterator[tuple[int, int, Any]]:
    """(field number, wire type, value) of each field: bytes, or an integer."""
    position = 0
    while position < len(raw):
        tag, position = _varint(raw, position)
        number, wire = tag >> 3, tag & 7
        value: Any
        if wire == VARINT:
            value, position = _varint(raw, position)
        elif wire == BYTES:
            size, position = _varint(raw, position)
            value, position = raw[position : position + size], position + size
        elif wire in (FIXED64, FIXED32):
            size = 8 if wire == FIXED64 else 4
            value, position = raw[position : position + size], position + size
        else:
            raise IndexError(f"unknown wire type {wire}")
        yield number, wire, value


def _message(fields: dict[int, tuple[str, str]], raw: bytes) -> Object:
    decoded: Object = {}
    for number, _, value in _fields(raw):
        name, kind = fields.get(number, ("", ""))
        if kind.startswith("[]"):
            decoded.setdefault(name, []).append(_value(kind[2:], value))
        elif kind.startswith("{}"):
            entry = {key: item for key, _, item in _fields(value)}
            decoded.setdefault(name, {})[entry.get(1, b"").decode()] = _value(kind[2:], entry.get(2, b""))
        elif name and value != b"":
            decoded[name] = _value(kind, value)
    return decoded


def _value(kind: str, value: Any) -> Any:
    match kind:
        case "string":
            return value.decode()
        case "bytes":
            return base64.b64encode(value).decode()
        case "bool":
            return bool(value)
        case "int":
            return value - (1 << 64) if value >= 1 << 63 else value
    return _message(MESSAGES[kind], value)
