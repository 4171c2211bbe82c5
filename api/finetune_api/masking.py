"""What a secret looks like, in the name of a variable and in a text: for whatever reaches a log, a status or an event.

The trainer knows the values of its secrets and masks them wherever they stand; the operator, which reads no Secret,
knows only these shapes. Both mask them. What is masked for nothing is less of a loss than what is not.
"""

import re
from functools import lru_cache

MASK = "[redacted]"
SHORT = 4096
"""Characters of a text that is remembered."""

_WORDS = re.compile(r"[^A-Za-z0-9]+|(?<=[a-z0-9])(?=[A-Z])")
_SECRET_WORDS = frozenset((
    "AUTH", "COOKIE", "CREDENTIAL", "CREDENTIALS", "CREDS", "DSN", "JWT", "KEY", "KEYS", "PASS", "PASSPHRASE", "PASSWD",
    "PASSWORD", "PAT", "PW", "PWD", "SAS", "SECRET", "SECRETS", "TOKEN", "TOKENS",
))  # fmt: skip
_PART_OF_NAME = re.compile(
    r"SECRET|TOKEN(?!IZ)|PASSW|PASSPHRASE|CREDENTIAL|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY|CONN(?:ECTION)?_?STR",
    re.IGNORECASE,
)
_HARMLESS = re.compile(
    r"^(OLD)?PWD$|_(FILE|PATH|DIR|URL|URI|ENDPOINT|HOST|PORT|REGION|MODE|TYPE|NAME|TIMEOUT|TTL|SOCK|ENABLED"
    r"|PARALLELISM)$",
    re.IGNORECASE,
)
"""Names that speak of a secret and hold something else. A user and password in a URL are masked wherever they stand."""

_USER_OF_URL = re.compile(r"(?<=://)[^/\s\"'<>]+(?=@)")
_TELLING = (
    r"(?:passw(?:or)?d|passphrase|pwd|secret|api[_-]?key|secret[_-]?key|access[_-]?key|account[_-]?key|private[_-]?key"
    r"|shared[_ -]?access[_ -]?key|shared[_ -]?access[_ -]?signature|credential|connection[_-]?string"
    r"|(?:access|auth|bearer|refresh|session|security|id)[_-]?token|client[_-]?secret)"
)
_ASSIGNED = re.compile(rf"({_TELLING}[\"']?\s*=\s*[\"']?)(?!\[redacted)([^\s\"'&;,}}\]]{{4,}})", re.IGNORECASE)
_TOLD = re.compile(
    rf"({_TELLING}[\"']?\s*:\s*[\"']?)((?=[^\s\"',;}}\]]*[0-9!@#$%^*+/=_-])[^\s\"',;}}\]]{{8,}})", re.IGNORECASE
)
"""`password: hunter2-hunter2`, and not `password: required`."""
_QUERY = re.compile(
    r"([?&](?:X-Amz-(?:Signature|Credential|Security-Token)|X-Goog-(?:Signature|Credential)|AWSAccessKeyId|sig|signature"
    r"|access_token|token|key)=)(?!\[redacted)[^&\s\"'<>]+",
    re.IGNORECASE,
)
_AUTHORIZATION = re.compile(
    r"(authorization[\"']?\s*[:=]\s*[\"']?(?:basic|bearer|token)\s+)(?!\[redacted)[^\s\"',]+", re.IGNORECASE
)
_BEARER = re.compile(r"(\bbearer\s+)[A-Za-z0-9._~+/-]{16,}=*", re.IGNORECASE)
_KNOWN = re.compile(
    r"\b(?:(?:AKIA|ASIA)[0-9A-Z]{16}|hf_[A-Za-z0-9]{16,}|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}"
    r"|glpat-[\w-]{20,}|sk-[A-Za-z0-9_-]{20,}|xox[abprs]-[\w-]{10,}|AIza[\w-]{35}|ya29\.[\w-]{20,}"
    r"|eyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)?)"
)
"""AWS, Hugging Face, GitHub, GitLab, OpenAI, Slack, Google; JSON web tokens."""
_VARIABLE = re.compile(r"^((?:export |declare -x )?([A-Za-z_]\w{0,127})=)(.+)$", re.MULTILINE)
"""A line of `env`, `export` or a .env file."""
_QUOTED = re.compile(r"([\"']([A-Z][A-Z0-9_]{1,127})[\"']\s*[:=,]\s*)([\"'])((?:\\.|(?!\3)[^\\])*)(?=\3)")
"""`'DB_PASS': '…'`, as dictionaries are printed. Lower case is left to `_TELLING`: models have other tokens."""
PEM_BEGIN = re.compile(r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----")
PEM_END = re.compile(r"-----END [A-Z0-9 ]*PRIVATE KEY-----")
_PEM = re.compile(rf"{PEM_BEGIN.pattern}.*?(?:{PEM_END.pattern}|\Z)", re.DOTALL)
_PEM_TAIL = re.compile(rf"(?:^[A-Za-z0-9+/=]{{8,}}\s*\n)*{PEM_END.pattern}", re.MULTILINE)
"""The end of a log that was cut may begin within a key."""


@lru_cache(maxsize=1024)
def is_secret_name(name: str) -> bool:
    """Whether a variable, or a file, of this name holds a secret."""
    if _HARMLESS.search(name):
        return False
    return bool(_PART_OF_NAME.search(name)) or not _SECRET_WORDS.isdisjoint(_WORDS.sub(" ", name).upper().split())


def mask(text: str) -> str:
    """The text without what looks like a secret in it: by the name that goes before it, or by its own form."""
    return _remembered(text) if len(text) <= SHORT else _masked(text)


@lru_cache(maxsize=512)
def _remembered(text: str) -> str:
    """An operator sees the same words of a pod at each reconcile."""
    return _masked(text)


def _masked(text: str) -> str:
    text = _PEM_TAIL.sub(MASK, _PEM.sub(MASK, text))
    text = _VARIABLE.sub(_if_secret, text)
    text = _QUOTED.sub(_if_secret_quoted, text)
    text = _USER_OF_URL.sub(MASK, text)
    for pattern in (_AUTHORIZATION, _BEARER, _QUERY, _ASSIGNED, _TOLD):
        text = pattern.sub(rf"\g<1>{MASK}", text)
    return _KNOWN.sub(MASK, text)


def _if_secret(found: re.Match[str]) -> str:
    return f"{found[1]}{MASK}" if is_secret_name(found[2]) else found[0]


def _if_secret_quoted(found: re.Match[str]) -> str:
    return f"{found[1]}{found[3]}{MASK}" if is_secret_name(found[2]) else found[0]
