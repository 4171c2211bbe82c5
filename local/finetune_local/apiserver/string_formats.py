"""Formats and names: what strings in an object may look like (k8s.io/apimachinery/pkg/util/validation)."""

import base64
import binascii
import re
import uuid
from collections.abc import Callable
from datetime import date, datetime
from ipaddress import IPv4Address, IPv6Address
from urllib.parse import urlsplit

DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?\Z")
DNS_1035_LABEL = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?\Z")
DNS_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\Z")
QUALIFIED_NAME = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]\Z")
LABEL_VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?\Z")
DURATION = re.compile(r"([-+]?(\d+(\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h))+\Z")
DATE_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)\Z")
CONFIG_KEY = re.compile(r"[-._a-zA-Z0-9]+\Z")

DNS_LABEL_MESSAGE = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end "
    "with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
DNS_1035_MESSAGE = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, "
    "and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is "
    "'[a-z]([-a-z0-9]*[a-z0-9])?')"
)
DNS_SUBDOMAIN_MESSAGE = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start "
    "and end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
LABEL_VALUE_MESSAGE = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
    "'(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)
QUALIFIED_NAME_MESSAGE = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric "
    "character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
    "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)


def dns_label_error(name: str) -> str:
    if len(name) > 63:
        return "must be no more than 63 characters"
    return "" if DNS_LABEL.match(name) else DNS_LABEL_MESSAGE


def dns_1035_label_error(name: str) -> str:
    if len(name) > 63:
        return "must be no more than 63 characters"
    return "" if DNS_1035_LABEL.match(name) else DNS_1035_MESSAGE


def dns_subdomain_error(name: str) -> str:
    if len(name) > 253:
        return "must be no more than 253 characters"
    return "" if DNS_SUBDOMAIN.match(name) else DNS_SUBDOMAIN_MESSAGE


def path_segment_error(name: str) -> str:
    """RBAC names may hold colons and capitals; no name may break out of its URL."""
    if name in (".", ".."):
        return f"may not be '{name}'"
    return next((f"may not contain '{mark}'" for mark in "/%" if mark in name), "")


def label_value_error(value: str) -> str:
    if len(value) > 63:
        return "must be no more than 63 characters"
    return "" if LABEL_VALUE.match(value) else LABEL_VALUE_MESSAGE


def qualified_name_error(key: str) -> str:
    prefix, slash, name = key.rpartition("/")
    if slash and dns_subdomain_error(prefix):
        return "prefix part " + dns_subdomain_error(prefix)
    if len(name) > 63:
        return "name part must be no more than 63 characters"
    return "" if QUALIFIED_NAME.match(name) else QUALIFIED_NAME_MESSAGE


def _is_date_time(value: str) -> bool:
    if not DATE_TIME.match(value):
        return False
    try:
        datetime.fromisoformat(value.upper())
    except ValueError:
        return False
    return True


def _parses(parse: Callable[[str], object]) -> Callable[[str], bool]:
    def accepts(value: str) -> bool:
        try:
            parse(value)
        except ValueError:
            return False
        return True

    return accepts


def _is_base64(value: str) -> bool:
    try:
        base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return False
    return True


FORMATS: dict[str, Callable[[str], bool]] = {
    "date-time": _is_date_time,
    "date": _parses(date.fromisoformat),
    "duration": lambda value: DURATION.match(value) is not None,
    "uuid": _parses(uuid.UUID),
    "byte": _is_base64,
    "ipv4": _parses(IPv4Address),
    "ipv6": _parses(IPv6Address),
    "uri": lambda value: bool(urlsplit(value).scheme),
}
