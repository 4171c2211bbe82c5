"""The Hub: a real client in a process of its own (it reads its settings once), and a small server."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from trainer.storage.hub_server import COMMIT, HubServer

PROGRAM = """
import json, logging, os, sys
from pathlib import Path
from finetune_storage import open_storage
logging.basicConfig(format="log: %(message)s")
answers = []
for uri, options, call, arguments in json.loads(sys.stdin.read()):
    try:
        place = open_storage(uri, **options)
        if call == "open":
            with place.open(arguments["path"]) as file:
                file.seek(arguments["at"])
                answers.append(file.read(arguments["bytes"]).decode())
        elif call == "fetch":
            got = place.fetch(Path(arguments.pop("target")), **arguments)
            files = [got] if got.is_file() else sorted(p for p in got.rglob("*") if p.is_file())
            answers.append({str(p.name if p == got else p.relative_to(got)): p.read_text() for p in files})
        else:
            answers.append([entry.path for entry in place.files()])
    except Exception as error:
        answers.append([type(error).__name__, str(error)])
print(json.dumps(answers))
logging.getLogger("huggingface_hub").warning("trying again")
"""


@pytest.fixture(scope="module")
def hub() -> Iterator[HubServer]:
    repositories = {
        "models/acme/tiny": {"config.json": b"{}", "model.safetensors": b"weights", "pytorch_model.bin": b"again"},
        "models/acme/secret": {"config.json": b"{}"},
        "datasets/acme/tickets": {"data/train.jsonl": b"{}\n", "README.md": b"#"},
    }
    with HubServer(repositories, gated={"models/acme/secret"}) as server:
        yield server


Call = tuple[str, dict[str, Any], str, dict[str, Any]]


def ask(hub_endpoint: str, home: Path, *calls: Call, **more: str) -> Any:
    return json.loads(run(hub_endpoint, home, *calls, **more).stdout)


def run(hub_endpoint: str, home: Path, *calls: Call, **more: str) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "HF_ENDPOINT": hub_endpoint, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", **more}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], input=json.dumps(calls), capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    return done


def test_fetching_and_refusals(hub: HubServer, tmp_path: Path) -> None:
    target = str(tmp_path / "scratch")
    model, one, dataset, file, listed, absent, gated, revision, path, unmatched = ask(
        hub.endpoint,
        tmp_path / "home",
        ("hf://acme/tiny", {}, "fetch", {"target": target, "patterns": ["*.json", "*.safetensors"]}),
        ("hf://acme/tiny@v1", {}, "fetch", {"target": target, "path": "config.json"}),
        ("hf://acme/tickets", {"kind": "dataset"}, "fetch", {"target": target, "patterns": ["data/*"]}),
        ("hf://datasets/acme/tickets/data/train.jsonl", {}, "fetch", {"target": target}),
        ("hf://acme/tiny", {"revision": COMMIT}, "files", {}),
        ("hf://acme/nobody", {}, "fetch", {"target": target}),
        ("hf://acme/secret", {}, "fetch", {"target": target}),
        ("hf://acme/tiny", {"revision": "v9"}, "fetch", {"target": target}),
        ("hf://acme/tiny/nowhere", {}, "fetch", {"target": target}),
        ("hf://acme/tiny", {}, "fetch", {"target": target, "patterns": ["*.onnx"]}),
    )

    assert model == {"config.json": "{}", "model.safetensors": "weights"}
    assert one == {"config.json": "{}"}
    assert dataset == {"data/train.jsonl": "{}\n"}
    assert file == {"train.jsonl": "{}\n"}
    assert listed == ["config.json", "model.safetensors", "pytorch_model.bin"]
    assert absent[0] == "NotFoundError"
    assert "hf://acme/nobody" in absent[1]
    assert "correct the name, or if it is private set HF_TOKEN" in absent[1]
    assert gated[0] == "AccessDeniedError"
    assert "access is granted by its owner" in gated[1]
    assert revision[0] == "NotFoundError"
    assert "at revision v9" in revision[1]
    assert path[0] == "NotFoundError"
    assert "there is no file at nowhere" in path[1]
    assert unmatched[0] == "NotFoundError"
    assert not [request for request in hub.requests if "pytorch_model.bin" in request]


def test_of_an_open_file_only_what_is_read_is_transferred(tmp_path: Path) -> None:
    rows = b"".join(b'{"text": "%08d"}\n' % number for number in range(100_000))
    with HubServer({"datasets/acme/tickets": {"data/train.jsonl": rows}}) as hub:
        inside, itself, absent = ask(
            hub.endpoint,
            tmp_path,
            ("hf://datasets/acme/tickets", {}, "open", {"path": "data/train.jsonl", "at": 21, "bytes": 20}),
            (
                "hf://datasets/acme/tickets@v1/data/train.jsonl",
                {},
                "open",
                {"path": "train.jsonl", "at": 0, "bytes": 9},
            ),
            ("hf://datasets/acme/tickets", {}, "open", {"path": "data/test.jsonl", "at": 0, "bytes": 9}),
        )
        assert hub.sent < len(rows)
    assert inside == '{"text": "00000001"}'
    assert itself == '{"text": '
    assert absent[0] == "NotFoundError"
    assert "hf://datasets/acme/tickets" in absent[1]


def test_what_was_fetched_once_is_found_offline_and_nothing_else(hub: HubServer, tmp_path: Path) -> None:
    call = ("hf://acme/tiny", {}, "fetch", {"target": str(tmp_path / "scratch"), "patterns": ["*.json"]})
    other = ("hf://acme/other", {}, "fetch", {"target": str(tmp_path / "scratch")})
    ask(hub.endpoint, tmp_path / "home", call)

    again, absent = ask("http://127.0.0.1:9", tmp_path / "home", call, other, HF_HUB_OFFLINE="1")

    assert again == {"config.json": "{}"}
    assert absent[0] == "NotFoundError"
    assert "HF_HUB_OFFLINE is set and it is not in the cache" in absent[1]


def test_a_hub_that_is_away_is_unavailable(tmp_path: Path) -> None:
    call = ("hf://acme/tiny", {}, "fetch", {"target": str(tmp_path / "scratch")})

    done = run("http://127.0.0.1:9", tmp_path / "home", call)

    (answer,) = json.loads(done.stdout)
    assert answer[0] == "UnavailableError"
    assert "hf://acme/tiny: http://127.0.0.1:9 cannot be used" in answer[1]
    assert done.stderr.splitlines().count("log: trying again") == done.stderr.count("trying again") == 1
