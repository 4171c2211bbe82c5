"""The few Linux system calls that Python 3.11 does not expose."""

import ctypes
import os
import sys

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000

MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_REMOUNT = 0x20
MS_NOATIME = 0x400
MS_NODIRATIME = 0x800
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 0x40000
MS_RELATIME = 0x200000
MNT_DETACH = 2

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36

_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41, "riscv64": 41, "ppc64le": 203, "s390x": 217}

LINUX = sys.platform.startswith("linux")
_libc = ctypes.CDLL(None, use_errno=True) if LINUX else None


def _call(name: str, *arguments: object) -> None:
    if _libc is None:
        raise OSError(f"{name} needs Linux")
    if getattr(_libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        shown = [a.decode() if isinstance(a, bytes) else a for a in arguments if not hasattr(a, "value")]
        raise OSError(number, f"{name}{tuple(shown)}: {os.strerror(number)}")


def unshare(flags: int) -> None:
    _call("unshare", ctypes.c_int(flags))


def mount(source: str, target: str, kind: str | None = None, flags: int = 0, data: str | None = None) -> None:
    _call(
        "mount",
        source.encode(),
        target.encode(),
        kind.encode() if kind else None,
        ctypes.c_ulong(flags),
        data.encode() if data else None,
    )


def unmount(target: str, flags: int = MNT_DETACH) -> None:
    _call("umount2", target.encode(), ctypes.c_int(flags))


def pivot_root(new_root: str, put_old: str) -> None:
    number = _PIVOT_ROOT.get(os.uname().machine)
    if number is None:
        raise OSError(f"pivot_root: unknown machine {os.uname().machine}")
    _call("syscall", ctypes.c_long(number), new_root.encode(), put_old.encode())


def set_hostname(name: str) -> None:
    _call("sethostname", name.encode(), ctypes.c_size_t(len(name.encode())))


def die_with_parent(parent: int) -> None:
    """SIGKILL for this process when its parent ends; exits at once when the parent is gone already.

    The kernel forgets the request whenever credentials change: call it after `unshare(CLONE_NEWUSER)`.
    """
    if not LINUX:
        return
    _call("prctl", ctypes.c_int(PR_SET_PDEATHSIG), ctypes.c_ulong(9), ctypes.c_ulong(0), ctypes.c_ulong(0))
    if os.getppid() != parent:
        os._exit(137)


def adopt_orphans() -> None:
    """Orphaned descendants become children of this process, so that it can end them all."""
    if LINUX:
        one = ctypes.c_ulong(1)
        _call("prctl", ctypes.c_int(PR_SET_CHILD_SUBREAPER), one, ctypes.c_ulong(0), ctypes.c_ulong(0))
