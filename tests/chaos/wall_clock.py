"""The wall clock of the replicas, which the tests can set."""

import os
from pathlib import Path


class WallClock:
    """All replicas read this one; the cluster and the test keep the right time."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "clock-offset"
        self.set(0)

    def set(self, seconds: float) -> None:
        """By so many seconds it is wrong from now on. Replaced in one step: a reader never sees half a number."""
        fresh = self._file.with_suffix(".new")
        fresh.write_text(str(seconds))
        fresh.replace(self._file)

    def environment(self) -> dict[str, str]:
        """For the processes that are to read it."""
        return {**os.environ, "CHAOS_CLOCK": str(self._file), "PYTHONPATH": str(Path(__file__).with_name("clock"))}
