"""A wall clock that is set forward or back while the process runs, as an administrator or NTP does it.

Python loads this at its start when the folder is on PYTHONPATH. The file that CHAOS_CLOCK names holds the seconds by
which the clock is wrong. Monotonic clocks never jump, so they are left alone.
"""

import datetime
import os
import time
from pathlib import Path

_FILE = Path(os.environ["CHAOS_CLOCK"])
_REAL_DATETIME = datetime.datetime
_REAL_TIME = time.time


def _offset() -> float:
    return float(_FILE.read_text())


class _AnyDatetime(type):
    """What C code makes is no less a datetime."""

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, _REAL_DATETIME)


class _Datetime(_REAL_DATETIME, metaclass=_AnyDatetime):
    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:
        return _REAL_DATETIME.now(tz) + datetime.timedelta(seconds=_offset())


datetime.datetime = _Datetime  # type: ignore[misc]
time.time = lambda: _REAL_TIME() + _offset()
