"""An object store, through a real server that speaks S3."""

import http.client
import os
import socket
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from finetune_api.manifest import verify_folder, write_manifest
from finetune_storage import Storage, open_storage
from finetune_storage.errors import AccessDeniedError, NotFoundError, UnavailableError, UriError
from finetune_trainer.errors import exit_code_of


@pytest.fixture
def place(s3) -> Storage:
    return open_storage(f"s3://{s3.bucket}/models/tickets")


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    folder = tmp_path / "artifact"
    (folder / "sub").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "sub" / "weights").write_bytes(os.urandom(6_000_000))  # more than one part of an upload
    write_manifest(folder)
    return folder


def test_a_folder_comes_back_as_it_was(place: Storage, artifact: Path, tmp_path: Path) -> None:
    place.upload(artifact)

    fetched = place.fetch(tmp_path / "scratch")

    verify_folder(fetched)
    assert (fetched / "sub" / "weights").read_bytes() == (artifact / "sub" / "weights").read_bytes()
    assert not list((tmp_path / "scratch").rglob("tmp-*"))


def test_only_wanted_files_are_fetched(place: Storage, artifact: Path, tmp_path: Path) -> None:
    place.upload(artifact)

    fetched = place.fetch(tmp_path / "scratch", patterns=["*.json"])

    assert sorted(path.name for path in fetched.rglob("*") if path.is_file()) == ["config.json", "manifest.json"]


def test_a_single_object_is_fetched_under_its_name(place: Storage, artifact: Path, s3, tmp_path: Path) -> None:
    place.upload(artifact)

    fetched = open_storage(f"s3://{s3.bucket}/models/tickets/config.json").fetch(tmp_path / "scratch")

    assert fetched.name == "config.json"
    assert fetched.read_text() == "{}"


def test_keys_may_have_any_character(s3, artifact: Path, tmp_path: Path) -> None:
    """What stands behind "?" or "#" tells two jobs apart as well as anything else."""
    for key in ("runs?a", "runs?b", "runs#1/x", "100 %/Modell ä"):
        quoted = key.replace("%", "%25").replace(" ", "%20")
        open_storage(f"s3://{s3.bucket}/{quoted}").upload(artifact)

    assert open_storage(f"s3://{s3.bucket}").folders() == ["100 %", "runs#1", "runs?a", "runs?b"]
    verify_folder(open_storage(f"s3://{s3.bucket}/runs?b").fetch(tmp_path / "scratch"))


@pytest.mark.parametrize("leaves", ["/{folder}/stolen", "../../stolen"])
def test_a_key_that_would_leave_its_folder_on_the_disk_is_refused(s3, tmp_path: Path, leaves: str) -> None:
    """Buckets of others hold what they like."""
    key = f"public/{leaves.format(folder=str(tmp_path).strip('/'))}"
    request = http.client.HTTPConnection(s3.endpoint.removeprefix("http://"))
    request.request("PUT", f"/{s3.bucket}/{key.replace('.', '%2e')}", b"x")
    assert request.getresponse().status == 200

    with pytest.raises(UriError, match=r"public: the key of the object .*stolen' is no path on a disk; rename it"):
        open_storage(f"s3://{s3.bucket}/public").fetch(tmp_path / "scratch")
    assert not list(tmp_path.rglob("stolen"))


def test_a_slash_too_many_is_an_error_with_the_uri(s3, artifact: Path, tmp_path: Path) -> None:
    with pytest.raises(UriError, match=r"^s3://.*/models//x: cannot be read as a key: Empty path component"):
        open_storage(f"s3://{s3.bucket}/models//x").fetch(tmp_path / "scratch")
    with pytest.raises(UriError):
        open_storage(f"s3://{s3.bucket}/models//x").upload(artifact)


def test_what_did_not_change_is_not_fetched_again(place: Storage, artifact: Path, tmp_path: Path) -> None:
    place.upload(artifact)
    first = place.fetch(tmp_path / "scratch")
    inode = (first / "config.json").stat().st_ino

    again = place.fetch(tmp_path / "scratch")

    assert (again / "config.json").stat().st_ino == inode


def test_an_upload_removes_what_is_no_longer_in_the_folder(place: Storage, artifact: Path) -> None:
    place.upload(artifact)
    (artifact / "config.json").unlink()
    write_manifest(artifact)

    place.upload(artifact)

    assert [entry.path for entry in place.files()] == ["manifest.json", "sub/weights"]


def test_delete_removes_all_below(place: Storage, artifact: Path) -> None:
    place.upload(artifact)

    place.delete()

    assert not place.exists()


def test_a_missing_key_names_the_uri(place: Storage, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=rf"{place.uri}: there is no object at this key or below it"):
        place.fetch(tmp_path)


@pytest.mark.parametrize("action", ["fetch", "upload"])
def test_a_missing_bucket_is_said_to_be_missing(s3, artifact: Path, tmp_path: Path, action: str) -> None:
    place = open_storage("s3://no-such-bucket/x")

    with pytest.raises(
        NotFoundError, match=r"s3://no-such-bucket/x: .* has no bucket 'no-such-bucket'; create it"
    ) as e:
        place.fetch(tmp_path) if action == "fetch" else place.upload(artifact)

    assert exit_code_of(e.value) == 2


def test_an_endpoint_where_nobody_listens_is_an_error_within_seconds(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")

    with pytest.raises(
        UnavailableError, match=rf"s3://b/x: .*127\.0\.0\.1:{port} cannot be used after 3 attempts"
    ) as e:
        open_storage("s3://b/x").fetch(tmp_path)

    assert exit_code_of(e.value) == 1


def test_refused_credentials_are_said_to_be_refused(guarded: str, tmp_path: Path) -> None:
    with pytest.raises(AccessDeniedError, match=r"refuses these credentials; set AWS_ACCESS_KEY_ID") as e:
        open_storage("s3://guarded/x").fetch(tmp_path)

    assert exit_code_of(e.value) == 2


@pytest.fixture
def guarded(s3) -> Iterator[str]:
    """The server with its IAM checks on: our key is not one of its users'."""
    _require_credentials(s3.endpoint, after_requests="0")
    yield s3.endpoint
    _require_credentials(s3.endpoint, after_requests="inf")


def _require_credentials(endpoint: str, after_requests: str) -> None:
    headers = {"Content-Type": "text/plain"}
    url = f"{endpoint}/moto-api/reset-auth"
    urllib.request.urlopen(urllib.request.Request(url, after_requests.encode(), headers, method="POST"))


def test_a_connection_cut_in_the_middle_leaves_nothing(s3, place: Storage, artifact: Path, tmp_path: Path, monkeypatch):
    place.upload(artifact)
    with CuttingProxy(s3.endpoint, after=3_000_000) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        with pytest.raises(UnavailableError, match="models/tickets"):
            open_storage(place.uri).fetch(tmp_path / "scratch")

    left = [path for path in (tmp_path / "scratch").rglob("*") if path.is_file()]
    assert left == []


class CuttingProxy:
    """Passes bytes on to a server and cuts every connection that answered more than so many."""

    def __init__(self, endpoint: str, after: int) -> None:
        host, _, port = endpoint.removeprefix("http://").partition(":")
        self._target = (host, int(port))
        self._after = after
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> "CuttingProxy":
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            upstream = socket.create_connection(self._target)
            threading.Thread(target=self._pass, args=(client, upstream, None), daemon=True).start()
            threading.Thread(target=self._pass, args=(upstream, client, self._after), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, limit: int | None) -> None:
        sent = 0
        try:
            while data := source.recv(65536):
                target.sendall(data)
                sent += len(data)
                if limit is not None and sent > limit:
                    break
        except OSError:
            return
        finally:
            for side in (source, target):
                try:
                    side.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue
