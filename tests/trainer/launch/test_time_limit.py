"""What hangs ends, whatever else fails."""

import subprocess
import sys

PROGRAM = """
import threading
from finetune_trainer.launch.time_limit import time_limit

def end(message):
    raise OSError("the disk is full")

with time_limit(0.1, "the look", end):
    threading.Event().wait()
"""


def test_last_words_that_cannot_be_written_keep_nothing_alive() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert "the disk is full" in done.stderr
