"""The container's view of the file system: the host's folders, with private /dev, /run and /proc and its mounts."""

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass

from finetune_local.kubelet.sandbox import libc

DEVICES = ("null", "zero", "full", "random", "urandom", "tty", "dri", "kfd", "infiniband", "fuse")
LINKS = {"fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2", "ptmx": "pts/ptmx"}
PRIVATE = ("dev", "run", "proc")
STAGING = ".staging"
OLD_ROOT = ".old-root"
DEFAULT_SHM = "64m"  # what container runtimes give /dev/shm: a DataLoader that needs more must fail here too


@dataclass(frozen=True)
class Mount:
    """One mount of the container: a host file or folder, or a private tmpfs when `source` is None."""

    target: str
    source: str | None = None
    read_only: bool = False
    size: str = ""
    """Limit of the tmpfs, as mount(8) spells it; empty means the kernel's default."""


class ContainerRoot:
    """Builds a root under `path`, on a tmpfs of its own mount namespace."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._own: set[str] = set()
        """Folders in which we may create entries without touching the host."""

    def build(self, mounts: Sequence[Mount], *, new_proc: bool) -> None:
        libc.mount("none", "/", None, libc.MS_REC | libc.MS_PRIVATE)
        self._tmpfs(self.path, "mode=755")
        for name in os.listdir("/"):
            if name not in PRIVATE:
                self._mirror(f"/{name}", f"{self.path}/{name}")
        self._make_proc(new_proc)
        self._make_private("run", "mode=755")
        self._make_dev()
        for mount in sorted(mounts, key=lambda one: one.target.rstrip("/").count("/")):
            self._mount(mount)

    def enter(self) -> None:
        """Makes the built tree the root; nothing of the host stays reachable but what was mirrored."""
        old = f"{self.path}/{OLD_ROOT}"
        os.mkdir(old)
        libc.pivot_root(self.path, old)
        os.chdir("/")
        libc.unmount(f"/{OLD_ROOT}")
        os.rmdir(f"/{OLD_ROOT}")

    def _tmpfs(self, path: str, options: str) -> None:
        libc.mount("tmpfs", path, "tmpfs", libc.MS_NOSUID | libc.MS_NODEV, options)
        self._own.add(path)

    def _make_private(self, name: str, options: str) -> str:
        path = f"{self.path}/{name}"
        os.mkdir(path)
        self._tmpfs(path, options)
        return path

    def _make_proc(self, new_proc: bool) -> None:
        path = f"{self.path}/proc"
        os.mkdir(path)
        if new_proc:
            libc.mount("proc", path, "proc", libc.MS_NOSUID | libc.MS_NODEV | libc.MS_NOEXEC)
        else:
            _bind("/proc", path)

    def _make_dev(self) -> None:
        dev = self._make_private("dev", "mode=755")
        for name in os.listdir("/dev"):
            if name in DEVICES or name.startswith("nvidia"):
                self._mirror(f"/dev/{name}", f"{dev}/{name}")
        for name, target in LINKS.items():
            os.symlink(target, f"{dev}/{name}")
        os.mkdir(f"{dev}/shm")
        self._tmpfs(f"{dev}/shm", f"mode=1777,size={DEFAULT_SHM}")
        os.mkdir(f"{dev}/pts")
        options = "newinstance,ptmxmode=0666,mode=620"
        try:
            libc.mount("devpts", f"{dev}/pts", "devpts", libc.MS_NOSUID | libc.MS_NOEXEC, options)
        except OSError:  # a host may forbid it; few programs in containers want terminals
            os.rmdir(f"{dev}/pts")

    def _mirror(self, source: str, target: str) -> None:
        """Shows a host entry at `target`; one that cannot be read (a stale network mount) is left out."""
        try:
            mode = os.lstat(source).st_mode
            if stat.S_ISLNK(mode):
                os.symlink(os.readlink(source), target)
                return
            _create(target, stat.S_ISDIR(mode))
            _bind(source, target)
        except OSError:
            return

    def _mount(self, mount: Mount) -> None:
        is_folder = mount.source is None or os.path.isdir(mount.source)
        target = self._place(mount.target, is_folder)
        if mount.source is None:
            self._tmpfs(target, "mode=1777" + (f",size={mount.size}" if mount.size else ""))
            return
        _bind(mount.source, target)
        if mount.read_only:
            _make_read_only(target)
        elif is_folder:
            self._own.add(target)

    def _place(self, target: str, is_folder: bool) -> str:
        """The path of `target` under the new root, created when missing without changing the host."""
        parts = [part for part in target.split("/") if part not in ("", ".")]
        path = self.path
        while parts:
            name = parts.pop(0)
            if name == "..":
                raise ValueError(f"mountPath {target}: must not contain '..'")
            following = f"{path}/{name}"
            if os.path.islink(following):
                link = os.readlink(following)
                parts = [part for part in link.split("/") if part not in ("", ".")] + parts
                path = self.path if link.startswith("/") else path
                continue
            if not os.path.lexists(following):
                self._create_in(path, name, is_folder or bool(parts))
            path = following
        return path

    def _create_in(self, folder: str, name: str, is_folder: bool) -> None:
        if folder not in self._own:
            self._layer(folder)
        _create(f"{folder}/{name}", is_folder)
        if is_folder:
            self._own.add(f"{folder}/{name}")

    def _layer(self, folder: str) -> None:
        """Puts a tmpfs over a host folder and shows the folder's entries in it: new ones then stay ours."""
        staging = f"{self.path}/{STAGING}"
        os.makedirs(staging, exist_ok=True)
        _bind(folder, staging)
        self._tmpfs(folder, "mode=755")
        for name in os.listdir(staging):
            self._mirror(f"{staging}/{name}", f"{folder}/{name}")
        libc.unmount(staging)
        os.rmdir(staging)


def _create(path: str, is_folder: bool) -> None:
    if is_folder:
        os.mkdir(path)
    else:
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o666))


def _bind(source: str, target: str) -> None:
    libc.mount(source, target, None, libc.MS_BIND | libc.MS_REC)


def _make_read_only(target: str) -> None:
    """A remount may not drop the flags that the host's mount has: they are locked in a user namespace."""
    kept = 0
    flags = os.statvfs(target).f_flag
    locked = (
        (os.ST_NOSUID, libc.MS_NOSUID),
        (os.ST_NODEV, libc.MS_NODEV),
        (os.ST_NOEXEC, libc.MS_NOEXEC),
        (os.ST_NOATIME, libc.MS_NOATIME),
        (os.ST_NODIRATIME, libc.MS_NODIRATIME),
        (os.ST_RELATIME, libc.MS_RELATIME),
    )
    for seen, flag in locked:
        if flags & seen:
            kept |= flag
    libc.mount("none", target, None, libc.MS_REMOUNT | libc.MS_BIND | libc.MS_RDONLY | kept)
