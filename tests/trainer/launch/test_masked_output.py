"""No secret in what a pod's processes write, whoever of them writes it, and nothing else is lost."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from finetune_trainer.launch.masked_output import LONGEST_LINE, LineMasker

POD = """
import os, subprocess, sys
from finetune_trainer.launch.masked_output import masked_output

with masked_output():
    print("launcher", os.environ["DB_PASS"])
    sys.stdout.write("without an end of line ")
    sys.stdout.flush()
    code = subprocess.run([sys.executable, "-c", sys.argv[1]]).returncode
print("afterwards", code)
os._exit(code)
"""
WORKER = """
import json, os
from urllib.parse import quote
os.write(1, b"from C: " + os.environ["DB_PASS"].encode() + b"\\n")
print(dict(os.environ))
print(json.dumps({"key": os.environ["PRIVATE_KEY"]}))
print(os.environ["PRIVATE_KEY"])
print(open(os.environ["FINETUNE_SECRET_PATHS"] + "/config.json").read())
print("declared:", os.environ["CHANNEL"], "and in a URL: http://x/?q=" + quote(os.environ["CHANNEL"], safe=""))
print("caf\\u00e9 goes on", flush=True)
raise RuntimeError("connecting with " + os.environ["DB_PASS"] + " failed")
"""
KEY = "-----BEGIN PRIVATE KEY-----\nMIIEvplantedline1\nplantedline2AAAA\n-----END PRIVATE KEY-----\n"


@pytest.fixture
def pod(tmp_path: Path) -> tuple[str, str, int]:
    """What the log of a pod holds whose worker tells everything that it knows, and how it ended."""
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    (mounted / "config.json").write_text('{"user": "planted-in-a-file"}\n')
    environment = os.environ | {
        "DB_PASS": "hunter2",
        "PRIVATE_KEY": KEY,
        "CHANNEL": "a/planted+channel",
        "FINETUNE_SECRET_VARIABLES": "CHANNEL",
        "FINETUNE_SECRET_PATHS": str(mounted),
        "PYTHONIOENCODING": "utf-8",
    }
    ended = subprocess.run(
        [sys.executable, "-c", POD, WORKER], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    return ended.stdout, ended.stderr, ended.returncode


def test_nothing_secret_and_everything_else_comes_through(pod: tuple[str, str, int]) -> None:
    output, errors, code = pod
    for secret in (
        "hunter2",
        "MIIEvplanted",
        "plantedline2",
        "planted-in-a-file",
        "planted+channel",
        "planted%2Bchannel",
    ):
        assert secret not in output + errors
    assert "launcher [redacted]\n" in output
    assert "without an end of line from C: [redacted]\n" in output
    assert "café goes on\n" in output
    assert "RuntimeError: connecting with [redacted] failed" in errors
    assert (code, "afterwards 1\n" in output) == (1, True)


def masked(*chunks: bytes) -> bytes:
    masker = LineMasker(lambda text: text.replace("planted", "*"))
    return b"".join(map(masker.feed, chunks)) + masker.end()


def test_a_secret_that_is_written_in_pieces_is_seen_whole() -> None:
    assert masked(b"a pla", b"nt", b"ed b\nplan") == b"a * b\nplan"


def test_progress_bars_come_through_as_they_are_drawn() -> None:
    masker = LineMasker(str)
    assert masker.feed(b" 10%\r 20%\r 3") == b" 10%\r 20%\r"
    assert masker.end() == b" 3"


def test_what_is_no_text_is_passed_on_as_it_is() -> None:
    assert masked(b"\xff\xfe planted \x00\n") == b"\xff\xfe * \x00\n"


def test_a_key_hides_its_lines_and_no_more_than_that() -> None:
    key = KEY.encode()
    assert masked(b"before " + key[:40], key[40:] + b"after\n") == b"before [redacted]\nafter\n"
    endless = b"-----BEGIN PRIVATE KEY-----\n" + b"AAAA\n" * 500
    assert masked(endless).count(b"AAAA") == 300


def test_what_is_said_of_a_key_or_beside_it_is_passed_on() -> None:
    said = b"ValueError: no start line, expecting: -----BEGIN PRIVATE KEY-----\n"
    rest = b'  File "/opt/job/read.py", line 3, in load\n    raise ValueError(text)\nstep 12/100 loss 0.5\n'
    assert masked(said + rest) == b"ValueError: no start line, expecting: [redacted]\n" + rest
    first, *others = (b"A%02d=" % line + b"keymaterial+/" * 4 for line in range(4))
    lines = [
        b"-----BEGIN EC PRIVATE KEY-----",
        first,
        b"[rank1] step 12",
        *others,
        b"Zz==",
        b"-----END EC PRIVATE KEY-----",
    ]
    assert masked(b"\n".join(lines) + b"\nafter\n") == b"[redacted]\n[rank1] step 12\nafter\n"


@pytest.mark.parametrize("unit", [b"x", b"word "], ids=["no white space", "words"])
def test_a_line_without_an_end_is_passed_on_in_pieces_that_cut_no_secret(unit: bytes) -> None:
    masker = LineMasker(lambda text: text.replace("planted secret", "*"))
    size, passed = LONGEST_LINE // 4 // len(unit), b"planted secret"
    read = written = b""
    for _ in range(12):
        chunk = unit * size + b"planted secret" + unit * size
        read += chunk
        written += masker.feed(chunk)
        assert len(masker.feed(b"")) == 0
        assert len(read) - len(written.replace(b"*", passed)) <= LONGEST_LINE + len(chunk)
    written += masker.end()
    assert written == read.replace(b"planted secret", b"*")


def test_a_secret_across_a_cut_is_masked_as_a_whole() -> None:
    secret = b"planted" * 1000
    masker = LineMasker(lambda text: text.replace(secret.decode(), "*"))
    line = b"x" * (LONGEST_LINE - 4 * len(secret)) + secret * 8 + b"y" * LONGEST_LINE
    written = b"".join(masker.feed(line[at : at + 65536]) for at in range(0, len(line), 65536)) + masker.end()
    assert written == line.replace(secret, b"*")


def test_json_of_a_secret_with_quotes_is_masked_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_SECRET", 'planted"with\\quotes')
    said = LineMasker().feed(json.dumps({"v": os.environ["MY_SECRET"]}).encode() + b"\n")
    assert b"planted" not in said
