"""A small server with the routes of the Hugging Face Hub that a download uses."""

import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

COMMIT = "a" * 40
RANGE = re.compile(r"bytes=(\d+)-(\d+)")


@dataclass
class HubServer:
    """Repositories by "models/ORG/NAME" or "datasets/ORG/NAME": their files by path."""

    repositories: dict[str, dict[str, bytes]]
    gated: set[str] = field(default_factory=set)
    revisions: set[str] = field(default_factory=lambda: {"main", "v1", COMMIT})
    commit: str = COMMIT
    """What every branch stands for."""
    requests: list[str] = field(default_factory=list)
    failing: bool = False
    sent: int = 0
    """Bytes of answers."""

    def __enter__(self) -> "HubServer":
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                hub.requests.append(self.path)
                status, headers, body = hub.answer(unquote(urlsplit(self.path).path))
                if status == 200 and (asked := RANGE.fullmatch(self.headers.get("Range", ""))):
                    status, body = 206, body[int(asked[1]) : int(asked[2]) + 1]
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command == "GET":
                    hub.sent += len(body)
                    self.wfile.write(body)

            do_HEAD = do_GET

            def log_message(self, *arguments: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body for a path of the Hub's API."""
        if self.failing:
            return 500, {}, b""
        if path.startswith("/api/"):
            return self._api(path.removeprefix("/api/"))
        repository, _, rest = path.strip("/").partition("/resolve/")
        repository = repository if repository.startswith("datasets/") else f"models/{repository}"
        revision, _, name = rest.partition("/")
        return self._within(repository, revision, lambda files: self._file(files, name, revision))

    def _api(self, path: str) -> tuple[int, dict[str, str], bytes]:
        if path.count("/") < 2:
            return 404, {}, b""
        kind, organization, name, *rest = path.split("/")
        repository = f"{kind}/{organization}/{name}"
        if rest[:1] == ["tree"]:
            return self._within(repository, rest[1], self._tree)
        revision = rest[1] if rest else "main"
        return self._within(repository, revision, lambda files: self._info(repository, revision))

    def _within(self, repository, revision, action):
        if repository not in self.repositories:
            return 401, {"X-Error-Code": "RepoNotFound", "X-Error-Message": "not found"}, b""
        if repository in self.gated:
            return 403, {"X-Error-Code": "GatedRepo", "X-Error-Message": "access is restricted"}, b""
        if revision not in self.revisions:
            return 404, {"X-Error-Code": "RevisionNotFound", "X-Error-Message": "no such revision"}, b""
        return action(self.repositories[repository])

    def _commit(self, revision: str) -> str:
        return revision if len(revision) == 40 else self.commit

    def _info(self, repository: str, revision: str) -> tuple[int, dict[str, str], bytes]:
        name = repository.partition("/")[2]
        return _json(
            {
                "id": name,
                "sha": self._commit(revision),
                "siblings": [],
                "private": False,
                "tags": [],
                "downloads": 0,
                "likes": 0,
            }
        )

    def _tree(self, files: dict[str, bytes]) -> tuple[int, dict[str, str], bytes]:
        return _json(
            [
                {"type": "file", "path": path, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                for path, data in files.items()
            ]
        )

    def _file(self, files: dict[str, bytes], name: str, revision: str) -> tuple[int, dict[str, str], bytes]:
        if name not in files:
            return 404, {"X-Error-Code": "EntryNotFound", "X-Error-Message": "no such file"}, b""
        data = files[name]
        return 200, {"ETag": f'"{hashlib.sha1(data).hexdigest()}"', "X-Repo-Commit": self._commit(revision)}, data


def _json(value: object) -> tuple[int, dict[str, str], bytes]:
    return 200, {"Content-Type": "application/json"}, json.dumps(value).encode()
