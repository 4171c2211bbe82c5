"""The time that a takeover is forgiven is no more than what a busy processor took from it."""

import os
import subprocess
import sys
import time

from chaos.pace import Stopwatch

BUSY = """
import hashlib, os, sys, threading, time
os.sched_setaffinity(0, {int(sys.argv[1])})
end, block = time.monotonic() + 3, bytes(1 << 20)

def burn():
    while time.monotonic() < end:
        hashlib.sha256(block)  # without the GIL

threads = [threading.Thread(target=burn) for _ in range(8)]
print("ready", flush=True)
sys.stdin.readline()
for one in threads:
    one.start()
"""


def test_waits_of_many_threads_and_processes_count_once() -> None:
    """Sixteen threads on one processor wait for it at the same time, and their main threads sleep."""
    command = [sys.executable, "-c", BUSY, str(min(os.sched_getaffinity(0)))]
    busy = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    try:
        for one in busy:
            assert one.stdout
            assert one.stdout.readline() == "ready\n"
        began, stopwatch = time.monotonic(), Stopwatch(one.pid for one in busy)
        for one in busy:
            assert one.stdin
            one.stdin.write("\n")
            one.stdin.flush()
        time.sleep(1)  # threads that have ended are counted no more
        assert stopwatch.waited() <= time.monotonic() - began
    finally:
        for one in busy:
            one.kill()
            one.wait()
