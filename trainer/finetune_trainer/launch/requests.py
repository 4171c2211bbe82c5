"""What the launcher of a pod is asked by signals: to stop, and to show where its workers are."""

import signal
import time
from types import FrameType

from finetune_trainer.launch.doorbell import Doorbell
from finetune_trainer.stop import StopSignal


class Requests:
    """Each one ends the wait of the main thread."""

    def __init__(self, stop: StopSignal) -> None:
        self._stop = stop
        self._bell = Doorbell()
        self._dump = False

    def listen(self) -> None:
        """Takes the signals; in the main thread."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_stop)
        signal.signal(signal.SIGUSR1, self._on_dump)

    def stopped(self) -> bool:
        """Whether a stop was asked for."""
        return self._stop.requested

    def take_dump(self) -> bool:
        """Whether stacks were asked for since the last call."""
        asked, self._dump = self._dump, False
        return asked

    def wake(self) -> None:
        """Ends the wait, for what is no request."""
        self._bell.ring()

    def wait(self, seconds: float) -> bool:
        """Until something is asked; False when nothing was in time."""
        return self._bell.wait(seconds)

    def settle(self, seconds: float) -> None:
        """Waits so long, unless a stop is asked for."""
        deadline = time.monotonic() + seconds
        while not self.stopped() and (left := deadline - time.monotonic()) > 0:
            self.wait(left)

    def _on_stop(self, number: int, frame: FrameType | None) -> None:
        self._stop.request()
        self.wake()

    def _on_dump(self, number: int, frame: FrameType | None) -> None:
        self._dump = True
        self.wake()
