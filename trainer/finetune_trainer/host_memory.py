"""How much memory a container may use, and how much of it is left."""

from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
"""Version 2."""
MEMINFO = Path("/proc/meminfo")


def host_memory(cgroup: Path = CGROUP) -> int:
    """Bytes that this container may use."""
    limit = _limit(cgroup)
    machine = _machine("MemTotal")
    return machine if limit is None else min(machine, limit)


def available_memory(cgroup: Path = CGROUP) -> int:
    """Bytes that can still be had. Cached files count: the kernel gives their memory back."""
    limit = _limit(cgroup)
    machine = _machine("MemAvailable")
    if limit is None:
        return machine
    statistics = dict(line.split() for line in (cgroup / "memory.stat").read_text().splitlines())
    used = int((cgroup / "memory.current").read_text()) - int(statistics["inactive_file"])
    return min(machine, limit - used)


def _limit(cgroup: Path) -> int | None:
    file = cgroup / "memory.max"
    text = file.read_text().strip() if file.exists() else "max"
    return int(text) if text.isdigit() else None


def _machine(name: str) -> int:
    fields = dict(line.split(":") for line in MEMINFO.read_text().splitlines())
    return int(fields[name].split()[0]) * 1024
