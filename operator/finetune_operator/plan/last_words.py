"""What a process said last, and what its exit code means: tables from text to cause."""

import re

from finetune_api.exit_codes import ExitCode
from finetune_operator.plan.causes import Cause
from finetune_operator.plan.observation import PodFacts

OUTCOMES = {
    "ConfigurationError": Cause.USER_ERROR,
    "DataError": Cause.BAD_DATA,
    "Preempted": Cause.PREEMPTED,
    "Hang": Cause.HANG,
}
"""Outcomes of the trainer's termination message; OutOfMemory needs a look at its text."""
EXIT_CODES = {
    ExitCode.CONFIGURATION: Cause.USER_ERROR,
    ExitCode.DATA: Cause.BAD_DATA,
    ExitCode.PREEMPTED: Cause.PREEMPTED,
    ExitCode.HANG: Cause.HANG,
    126: Cause.INVALID_IMAGE,  # a shell found the program but cannot execute it
    127: Cause.INVALID_IMAGE,  # a shell found no such program
    143: Cause.PREEMPTED,  # SIGTERM: someone asked it to stop
}
GPU_MEMORY_SIGNS = (
    "cuda out of memory",
    "cuda error: out of memory",
    "cublas_status_alloc_failed",
    "hip out of memory",
    "torch.outofmemoryerror",
    "acceleratoroutofmemory",
)
HOST_MEMORY_SIGNS = (
    "defaultcpuallocator",
    "cannot allocate memory",
    "std::bad_alloc",
    "memoryerror",
    "insufficient shared memory (shm)",
    "container ran out of memory",
)
CODE_SIGNS = (
    "device-side assert triggered",  # an index that is out of range, most often a label
    "shapes cannot be multiplied",
    "size mismatch for",
    "expected all tensors to be on the same device",
)
COMMUNICATION_SIGNS = (
    "broken pipe",
    "collective operation timeout",
    "connection closed by peer",
    "connection refused",
    "connection reset by peer",
    "connection timed out",
    "could not connect",
    "did not meet at",
    "distbackenderror",
    "distnetworkerror",
    "diststoreerror",
    "gloo/transport",
    "name or service not known",
    "nccl communicator was aborted",
    "nccl error",
    "ncclinternalerror",
    "ncclremoteerror",
    "ncclsystemerror",
    "network is unreachable",
    "no route to host",
    "rendezvous",
    "socket timeout",
    "temporary failure in name resolution",
    "timed out waiting for clients",
    "timed out waiting for recv operation",
    "timed out waiting for send operation",
)
SIGNS: tuple[tuple[Cause, tuple[str, ...]], ...] = (
    (Cause.GPU_OUT_OF_MEMORY, GPU_MEMORY_SIGNS),
    (Cause.HOST_OUT_OF_MEMORY, HOST_MEMORY_SIGNS),
    (Cause.USER_ERROR, CODE_SIGNS),
    (Cause.COMMUNICATION, COMMUNICATION_SIGNS),
)
CODE_ERROR = re.compile(
    r"^(ArithmeticError|AssertionError|AttributeError|ImportError|IndexError|KeyError|ModuleNotFoundError|NameError"
    r"|NotImplementedError|RecursionError|SyntaxError|TypeError|UnboundLocalError|ValueError|ZeroDivisionError)\b"
)
"""Exceptions that the same code raises again from the same data. RuntimeError is not one: CUDA and NCCL raise it."""
SIGNALS = {
    129: "SIGHUP",
    130: "SIGINT",
    131: "SIGQUIT",
    132: "SIGILL",
    134: "SIGABRT",
    135: "SIGBUS",
    136: "SIGFPE",
    137: "SIGKILL",
    139: "SIGSEGV",
    143: "SIGTERM",
}
"""128 + n: ended by a signal."""


def cause_of_words(pod: PodFacts) -> Cause:
    """From the trainer's own outcome, the exit code, and the text, in this order of trust."""
    outcome = pod.message.outcome if pod.message else ""
    if outcome in OUTCOMES:
        return OUTCOMES[outcome]
    signed = _signed(pod.log_tail.lower())
    if outcome == "OutOfMemory" or pod.exit_code == ExitCode.OUT_OF_MEMORY:
        return Cause.GPU_OUT_OF_MEMORY if signed == Cause.GPU_OUT_OF_MEMORY else Cause.HOST_OUT_OF_MEMORY
    if pod.exit_code in EXIT_CODES:
        return EXIT_CODES[pod.exit_code]
    if CODE_ERROR.match(telling_line(pod)) and signed != Cause.COMMUNICATION:
        return Cause.USER_ERROR
    return signed or Cause.CRASH


def _signed(text: str) -> Cause | None:
    return next((cause for cause, signs in SIGNS if any(sign in text for sign in signs)), None)


def telling_line(pod: PodFacts) -> str:
    """Of a message the first line says it; of a log, or a traceback, the last."""
    lines = pod.log_tail.splitlines()
    if not lines:
        return ""
    return lines[0] if pod.message and "Traceback" not in lines[0] else lines[-1]


def exit_words(exit_code: int | None) -> str:
    """`exit code 137 (SIGKILL)`."""
    if exit_code is None:
        return "the pod failed"
    signal = SIGNALS.get(exit_code)
    return f"exit code {exit_code}{f' ({signal})' if signal else ''}"
