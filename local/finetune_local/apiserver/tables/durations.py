"""Ages as kubectl writes them: 5s, 2m30s, 3h, 4d2h (k8s.io/apimachinery/pkg/util/duration.HumanDuration)."""

import time
from datetime import datetime

UNKNOWN = "<unknown>"


def age(text: str | None, now: float | None = None) -> str:
    """Since an RFC 3339 time."""
    if not text:
        return UNKNOWN
    then = datetime.fromisoformat(text).timestamp()
    return human_duration((time.time() if now is None else now) - then)


def human_duration(seconds: float) -> str:
    if seconds < -1:
        return "<invalid>"
    total = max(int(seconds), 0)
    minutes, hours, days = total // 60, total // 3600, total // 86400
    if total < 120:
        return f"{total}s"
    if minutes < 10:
        return _pair(minutes, "m", total % 60, "s")
    if hours < 3:
        return f"{minutes}m"
    if hours < 8:
        return _pair(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    if days < 8:
        return _pair(days, "d", hours % 24, "h")
    if days < 730:
        return f"{days}d"
    if days < 2920:
        return _pair(days // 365, "y", days % 365, "d")
    return f"{days // 365}y"


def _pair(large: int, large_unit: str, small: int, small_unit: str) -> str:
    return f"{large}{large_unit}" + (f"{small}{small_unit}" if small else "")


def seconds_between(start: str, end: str | None, now: float) -> float:
    """From one RFC 3339 time to another, or to now."""
    last = datetime.fromisoformat(end).timestamp() if end else now
    return last - datetime.fromisoformat(start).timestamp()
