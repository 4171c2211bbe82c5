"""Object stores that speak S3, through fsspec over pyarrow's file system.

pyarrow's and not s3fs: botocore pins an older python-dateutil than the Kubernetes client needs.
"""

import hashlib
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import unquote

from finetune_api import manifest
from finetune_storage.errors import AccessDeniedError, NotFoundError, UnavailableError, UriError
from finetune_storage.local import replace_folder
from finetune_storage.location import Entry
from finetune_storage.uri import split_uri

ATTEMPTS = 3
"""Tries of one request, by the SDK, with growing pauses."""
CONNECT_SECONDS = 5.0
REQUEST_SECONDS = 10.0
"""Silence after which a request has failed; a slow transfer is no silence."""
TRANSFERS = 8
"""Files on their way at the same time."""
CHUNK = 8 * 2**20
READ_BACK_LIMIT = 2**30
"""Bytes up to which an upload is read back and its sha256 compared; above, its size and the SDK's own checksums."""

DENIED = (
    "ACCESS_DENIED",
    "INVALID_ACCESS_KEY_ID",
    "SIGNATURE_DOES_NOT_MATCH",
    "INVALID_CLIENT_TOKEN_ID",
    "MISSING_AUTHENTICATION_TOKEN",
    "UNRECOGNIZED_CLIENT",
    "HTTP status 403",
    "HTTP response code: 403",
)


class S3Storage:
    """A prefix, or one object, of a bucket."""

    def __init__(self, uri: str, environment: Mapping[str, str] = os.environ) -> None:
        parts = split_uri(uri)
        if not parts.netloc:
            raise UriError(f"{uri}: expected s3://BUCKET/KEY")
        self.uri = uri
        self._bucket = parts.netloc
        self._root = f"{parts.netloc}/{unquote(parts.path).strip('/')}".rstrip("/")
        self._endpoint = environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL")
        self._environment = environment
        self._filesystem: Any = None

    def exists(self, path: str = "") -> bool:
        return bool(self._select(path))

    def files(self, path: str = "") -> list[Entry]:
        return self._select(path)

    def folders(self) -> list[str]:
        with self._errors():
            found = self._fs.fs.get_file_info(_selector(self._root, recursive=False))
        return sorted(info.base_name for info in found if not info.is_file)

    def read(self, path: str) -> bytes:
        with self._errors(path), self._fs.open(self._key(path), "rb") as file:
            return bytes(file.read())

    def open(self, path: str) -> BinaryIO:
        is_itself = path == self._root.rpartition("/")[2] and self._is_object("")
        with self._errors(path):
            file: BinaryIO = self._fs.open(self._root if is_itself else self._key(path), "rb")
            return file

    def fetch(self, target: Path, path: str = "", patterns: Sequence[str] | None = None) -> Path:
        place = self.place(target, path)
        wanted = [entry for entry in self._select(path) if _matches(entry.path, patterns)]
        if not wanted:
            raise NotFoundError(self._nothing(path, patterns))
        if self._is_object(path):
            if not _same(place, wanted[0]):
                self._download(path, place, wanted[0].modified)
            return place
        self._check_inside(wanted, path)
        if all(_same(place / entry.path, entry) for entry in wanted):
            return place
        staging = place.with_name(f"tmp-{place.name}-{uuid.uuid4().hex[:8]}")
        try:
            self._each(
                wanted,
                lambda entry: self._download(_join(path, entry.path), staging / entry.path, entry.modified),
            )
            replace_folder(staging, place)
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise
        return place

    def place(self, target: Path, path: str = "") -> Path:
        """Where `fetch` puts something: below `target`, in a folder of this URI's own, under its own name."""
        key = self._key(path)
        mark = hashlib.sha256(f"{self._endpoint}/{key}".encode()).hexdigest()[:12]
        return target / f"s3-{mark}" / key.rpartition("/")[2]

    def upload(self, source: Path, path: str = "") -> None:
        names = manifest.files_of(source)
        marker = _join(path, manifest.MANIFEST)
        self._remove(marker)
        self._each(names, lambda name: self.put_file(source / name, _join(path, name)))
        for entry in self._select(path):
            if entry.path not in names:
                self._remove(_join(path, entry.path))
        if (source / manifest.MANIFEST).exists():
            self.put_file(source / manifest.MANIFEST, marker)

    def delete(self, path: str = "") -> None:
        self._remove(_join(path, manifest.MANIFEST))
        if self._is_object(path):
            self._remove(path)
            return
        with self._errors(path):
            # Not object by object: pyarrow would leave an empty object named like the folder behind.
            if self._key(path) == self._bucket:
                self._fs.fs.delete_dir_contents(self._bucket)
            elif self._fs.fs.get_file_info(self._key(path)).type.name == "Directory":
                self._fs.fs.delete_dir(self._key(path))

    def put_file(self, source: Path, path: str) -> None:
        """Upload one file and verify what arrived."""
        with self._errors(path), source.open("rb") as file, self._fs.open(self._key(path), "wb") as remote:
            shutil.copyfileobj(file, remote, CHUNK)
        self.verify(path, manifest.entry_of(source))

    def put(self, data: bytes, path: str) -> None:
        """Write a small object."""
        with self._errors(path), self._fs.open(self._key(path), "wb") as remote:
            remote.write(data)

    def verify(self, path: str, expected: manifest.FileEntry) -> None:
        """Compare an object as it is stored now with what it should be.

        Raises:
            UnavailableError: It differs.
        """
        with self._errors(path):
            size = self._fs.info(self._key(path))["size"]
            problem = "" if size == expected["size"] else f"{size} bytes, expected {expected['size']}"
            if not problem and size <= READ_BACK_LIMIT and self._sha256(path) != expected["sha256"]:
                problem = "another content (sha256 differs)"
        if problem:
            raise UnavailableError(f"{self._name(path)}: verification after writing failed: it has {problem}")

    @property
    def _fs(self) -> Any:
        if self._filesystem is None:
            from fsspec.implementations.arrow import ArrowFSWrapper

            with self._errors():
                self._filesystem = ArrowFSWrapper(self._connect(), skip_instance_cache=True)
        return self._filesystem

    def _connect(self) -> Any:
        from pyarrow.fs import AwsStandardS3RetryStrategy, S3FileSystem

        return S3FileSystem(
            endpoint_override=self._endpoint,
            region=self._environment.get("AWS_REGION") or self._environment.get("AWS_DEFAULT_REGION"),
            tls_ca_file_path=self._environment.get("AWS_CA_BUNDLE"),
            connect_timeout=CONNECT_SECONDS,
            request_timeout=REQUEST_SECONDS,
            retry_strategy=AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS),
        )

    def _select(self, path: str) -> list[Entry]:
        """Every object below a prefix, relative to it; for an object itself, that one."""
        root = self._key(path)
        with self._errors(path):
            found = self._fs.fs.get_file_info(_selector(root, recursive=True))
            entries = [_entry(info, info.path.removeprefix(f"{root}/")) for info in found if info.is_file]
        if not entries and self._is_object(path):
            with self._errors(path):
                entries = [_entry(self._fs.fs.get_file_info(root), root.rpartition("/")[2])]
        return sorted(entries, key=lambda entry: entry.path)

    def _is_object(self, path: str) -> bool:
        key = self._key(path)
        if key == self._bucket:
            return False
        with self._errors(path):
            return bool(self._fs.fs.get_file_info(key).is_file)

    def _download(self, path: str, target: Path, modified: float) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f"tmp-{target.name}-{uuid.uuid4().hex[:8]}")
        try:
            with (
                self._errors(path),
                self._fs.open(self._key(path), "rb", seekable=False) as remote,
                temporary.open("wb") as file,
            ):
                shutil.copyfileobj(remote, file, CHUNK)
            os.utime(temporary, (modified, modified))
            temporary.rename(target)
        finally:
            temporary.unlink(missing_ok=True)

    def _check_inside(self, entries: Sequence[Entry], path: str) -> None:
        """Keys are no paths: "//" and ".." mean nothing in a bucket, and lead anywhere on a disk."""
        for entry in entries:
            if {"", ".", ".."} & set(entry.path.split("/")):
                raise UriError(
                    f"{self._name(path)}: the key of the object {entry.path!r} is no path on a disk; rename it, or "
                    "name another prefix"
                )

    def _sha256(self, path: str) -> str:
        digest = hashlib.sha256()
        with self._fs.open(self._key(path), "rb", seekable=False) as remote:
            while chunk := remote.read(CHUNK):
                digest.update(chunk)
        return digest.hexdigest()

    def _remove(self, path: str) -> None:
        with self._errors(path):
            if self._fs.fs.get_file_info(self._key(path)).is_file:
                self._fs.fs.delete_file(self._key(path))

    def _each(self, items: Sequence[Any], action: Callable[[Any], None]) -> None:
        with ThreadPoolExecutor(TRANSFERS) as pool:
            for _ in pool.map(action, items):
                pass

    def _key(self, path: str) -> str:
        return f"{self._root}/{path}" if path else self._root

    def _name(self, path: str) -> str:
        return f"{self.uri.rstrip('/')}/{path}" if path else self.uri

    @contextmanager
    def _errors(self, path: str = "") -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise NotFoundError(self._nothing(path)) from error
        except OSError as error:
            raise self._translated(error, path) from error
        except ValueError as error:  # pyarrow's, of keys such as a//b
            raise UriError(f"{self._name(path)}: cannot be read as a key: {error}; correct it") from error

    def _translated(self, error: OSError, path: str) -> Exception:
        text, name = str(error), self._name(path)
        where = f"the S3 endpoint {self._endpoint}" if self._endpoint else "Amazon S3"
        if "NO_SUCH_BUCKET" in text:
            return NotFoundError(f"{name}: {where} has no bucket {self._bucket!r}; create it, or correct its name")
        if any(sign in text for sign in DENIED):
            return AccessDeniedError(
                f"{name}: {where} refuses these credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the "
                f"Secret that credentials.secretName names, and let them read and write the bucket ({_reason(text)})"
            )
        if error.errno is not None and "AWS Error" not in text:  # of this machine: a full disk while fetching
            return UnavailableError(f"{name}: {error.strerror or text}")
        return UnavailableError(
            f"{name}: {where} cannot be used after {ATTEMPTS} attempts: {_reason(text)}; "
            "check AWS_ENDPOINT_URL and the network policy of the pods"
        )

    def _bucket_exists(self) -> bool:
        with suppress(OSError):  # only to word another error; that one is the news
            return bool(self._fs.fs.get_file_info(self._bucket).type.name != "NotFound")
        return True

    def _nothing(self, path: str, patterns: Sequence[str] | None = None) -> str:
        kind = f" that matches {', '.join(patterns)}" if patterns else ""
        if not self._bucket_exists():
            where = f"the S3 endpoint {self._endpoint}" if self._endpoint else "Amazon S3"
            return f"{self.uri}: {where} has no bucket {self._bucket!r}; create it, or correct its name"
        return f"{self._name(path)}: there is no object{kind} at this key or below it; check the key"


def _selector(root: str, recursive: bool) -> Any:
    from pyarrow.fs import FileSelector

    return FileSelector(root, recursive=recursive, allow_not_found=True)


def _entry(info: Any, path: str) -> Entry:
    return Entry(path, info.size, info.mtime.timestamp() if info.mtime else 0.0)


def _same(local: Path, entry: Entry) -> bool:
    """Whether a file was fetched before and not written since: a download has the time of its object."""
    try:
        status = local.stat()
    except FileNotFoundError:
        return False
    return status.st_size == entry.size and abs(status.st_mtime - entry.modified) < 0.001


def _reason(text: str) -> str:
    match = re.search(r"AWS Error (.*)", text, re.DOTALL)
    return (match[1] if match else text).strip()[:300]


def _join(path: str, name: str) -> str:
    return f"{path}/{name}" if path else name


def _matches(path: str, patterns: Sequence[str] | None) -> bool:
    return patterns is None or any(fnmatch(path, pattern) for pattern in patterns)
