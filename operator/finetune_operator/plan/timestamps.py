"""Kubernetes timestamps: RFC 3339, UTC, whole seconds."""

from datetime import UTC, datetime


def rfc3339(moment: datetime) -> str:
    """`2026-11-22T08:43:25Z`."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="seconds") + "Z"


def parse_time(text: str | None) -> datetime | None:
    """The moment, or None when there is none; micro-seconds and offsets are accepted."""
    return datetime.fromisoformat(text) if text else None


def still_to_wait(since: datetime | None, seconds: float, now: datetime) -> float:
    """Seconds until so many have passed since then, 0 at the least.

    0 also when that moment lies further ahead than the whole wait: the clock was set back meanwhile, and nobody shall
    wait for it to catch up.
    """
    if since is None:
        return 0.0
    wait = seconds - (now - since).total_seconds()
    return 0.0 if wait > 2 * seconds else max(wait, 0.0)


def seconds_between(start: str | None, end: datetime) -> float:
    """Seconds from `start` to `end`; 0 when `start` is unset."""
    began = parse_time(start)
    return (end - began).total_seconds() if began else 0.0
