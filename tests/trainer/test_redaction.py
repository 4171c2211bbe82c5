"""No credential in what a pod says."""

import logging

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
