"""No credential in what a pod says."""

import base64
import json
import logging
from pathlib import Path

import pytest

from finetune_trainer import termination
from finetune_trainer.redaction import MASK, RedactingFormatter, redact

ENVIRONMENT = {
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG",
    "HF_TOKEN": "hf_abcdefghij",
    "HF_TOKEN_SHORT": "abc",
    "FINETUNE_PROGRESS_TOKEN_FILE": "/var/run/secrets/token",
    "TOKENIZERS_PARALLELISM": "false___",
    "MY_PASSWORD": "wJalrXUtnFEMI/K7MDENG-and-more",
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("403 for key wJalrXUtnFEMI/K7MDENG", f"403 for key {MASK}"),
        ("Authorization: Bearer hf_abcdefghij, again hf_abcdefghij", f"Authorization: Bearer {MASK}, again {MASK}"),
        ("longest first: wJalrXUtnFEMI/K7MDENG-and-more", f"longest first: {MASK}"),
        ("http://me:pass@minio:9000/b is away", f"http://{MASK}@minio:9000/b is away"),
        ("abc /var/run/secrets/token false___", "abc /var/run/secrets/token false___"),
        ("s3://bucket/key at 12:30 by me@example.com", "s3://bucket/key at 12:30 by me@example.com"),
    ],
)
def test_values_of_secret_variables_and_users_of_urls_are_masked(text: str, expected: str) -> None:
    assert redact(text, ENVIRONMENT) == expected


def test_logs_with_tracebacks_and_last_words_are_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted-secret")
    try:
        raise RuntimeError("signing with planted-secret failed")
    except RuntimeError as error:
        info = (type(error), error, error.__traceback__)
        message = termination.message_of(error)
    record = logging.LogRecord("x", logging.ERROR, "f", 1, "key planted-secret", None, info)
    text = RedactingFormatter().format(record)
    assert "planted-secret" not in text + message.message
    assert text.count(MASK) == 3  # the message, the source line and the exception of the traceback
    assert f"signing with {MASK} failed" in message.message


FILES = {
    "credentials": "[default]\naws_access_key_id = PLANTEDID\naws_secret_access_key = planted/aws+key\n",
    ".netrc": "machine hub.example.com login me password planted-netrc\n",
    ".dockerconfigjson": '{"auths": {"ghcr.io": {"username": "someone", "auth": "planted-docker=="}}}',
    "service-account.json": json.dumps({"type": "service_account", "client_secret": "planted-gcp"}, indent=2),
    "folder/app.yaml": "database:\n  host: db.example.com\n  password: 'planted yaml'\n",
    "ca.crt": "-----BEGIN CERTIFICATE-----\nMIIBpubliclineofit\n-----END CERTIFICATE-----\n",
}


@pytest.fixture
def mounted(tmp_path: Path) -> dict[str, str]:
    """A Secret as the kubelet mounts it: links beside the folder that holds the files."""
    for name, content in FILES.items():
        path = tmp_path / "..2026_11_22" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    (tmp_path / "..data").symlink_to("..2026_11_22")
    for top in {name.partition("/")[0] for name in FILES}:
        (tmp_path / top).symlink_to(f"..data/{top}")
    return {"FINETUNE_SECRET_PATHS": str(tmp_path)}


@pytest.mark.parametrize(
    "secret", ["PLANTEDID", "planted/aws+key", "planted-netrc", "planted-docker==", "planted-gcp", "planted yaml"]
)
def test_secrets_within_mounted_files_are_masked_by_themselves(mounted: dict[str, str], secret: str) -> None:
    assert redact(f"refused: {secret} is wrong", mounted) == f"refused: {MASK} is wrong"


def test_a_secret_that_is_replaced_while_the_pod_runs_is_masked_before_and_after(mounted: dict[str, str]) -> None:
    root = Path(mounted["FINETUNE_SECRET_PATHS"])
    assert redact("planted-netrc or planted-after", mounted) == f"{MASK} or planted-after"
    (root / "..2026_11_23").mkdir()
    (root / "..2026_11_23" / ".netrc").write_text("machine hub.example.com login me password planted-after\n")
    (root / "..data_tmp").symlink_to("..2026_11_23")
    (root / "..data_tmp").rename(root / "..data")
    assert redact("planted-netrc or planted-after", mounted) == f"{MASK} or {MASK}"


def test_what_else_stands_in_such_files_is_no_secret(mounted: dict[str, str]) -> None:
    text = "someone of service_account at db.example.com and hub.example.com shows MIIBpubliclineofit"
    assert redact(text, mounted) == text


@pytest.mark.parametrize(
    "value",
    [
        '{"user": "someone", "keys": {"refresh_token": "planted%one"}}',
        "Server=someone;AccountKey=planted%one;Database=x",
        "host=db user=someone password=planted%one",
        "postgres://someone:planted%25one@db:5432/x",
    ],
    ids=["JSON", "Azure", "libpq", "URL"],
)
def test_parts_of_a_secret_variable_are_masked_too(value: str) -> None:
    assert redact("someone sent planted%one", {"MY_CREDENTIALS": value}) == f"someone sent {MASK}"


@pytest.mark.parametrize(
    "around",
    ["'a\\n{}'", '"\\u003d{}\\t"', "?q%3D{}%26", "\x1b[31m{}\x1b[0m", "\x1b[1m{}", "x={};", "b'{}'"],
    ids=["repr", "JSON", "URL", "colour", "bold", "assigned", "bytes"],
)
def test_a_short_secret_is_found_behind_an_escape(around: str) -> None:
    assert redact(around.format("hunter22"), {"DB_PASS": "hunter22"}) == around.format(MASK)


def test_a_short_secret_within_a_word_stays() -> None:
    assert redact("pretrained and trained", {"DB_PASS": "trained"}) == f"pretrained and {MASK}"


@pytest.mark.parametrize("before", ["", "m", "me", "me:"])
@pytest.mark.parametrize("secret", ["hunter2", "planted-token-~~~???"])
def test_a_secret_is_known_in_base64_wherever_it_begins(before: str, secret: str) -> None:
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        left, right = redact(encode(f"{before}{secret}:more".encode()).decode(), {"MY_TOKEN": secret}).split(MASK)
        assert (len(left) <= 4, len(right.rstrip("=")) <= 8) == (True, True), "no more than what the neighbours share"
