"""What a process said last, and what its exit code means: tables from text to cause."""

import re

from finetune_api.exit_codes import ExitCode
from finetune_operator.plan.causes import Cause
from finetune_operator.plan.exception_chain import earlier_exceptions
from finetune_operator.plan.observation import PodFacts

OUTCOMES = {
    "ConfigurationError": Cause.USER_ERROR,
    "DataError": Cause.BAD_DATA,
    "ExportError": Cause.BAD_EXPORT,
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
LOCKED_MEMORY_SIGNS = ("ibv_reg_mr", "ibv_reg_dmabuf_mr", "ibv_create_", "ibv_alloc_")
"""RDMA finds no memory that may be locked, whatever there is: the node's limit (memlock) is too low."""
GPU_MEMORY_SIGNS = (
    "cuda out of memory",
    "cuda error: out of memory",
    "cuda failure 'out of memory'",  # NCCL, which allocates beside PyTorch; with the number of the error from 2.16 on
    "cuda failure 2 'out of memory'",
    "hip failure 'out of memory'",
    "hip failure 2 'out of memory'",
    "hip error: out of memory",
    "cuda_error_out_of_memory",
    "cublas_status_alloc_failed",
    "cudnn_status_alloc_failed",
    "cusolver_status_alloc_failed",
    "hip out of memory",
    "torch.outofmemoryerror",
    "acceleratoroutofmemory",
)
DEVICE_SIGNS = (
    "libcuda.so.1: cannot open",  # part of the driver, which the node brings
    "libnvidia-ml.so.1: cannot open",
    "driver/library version mismatch",
    "no cuda gpus are available",
    "cuda driver initialization failed",
    "uncorrectable ecc error",
    "gpu is lost",
    "fallen off the bus",
)
"""A node whose GPUs do not work."""
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
    "bad gateway",
    "broken pipe",
    "collective operation timeout",
    "connection closed by peer",
    "connection refused",
    "connection reset by peer",
    "connect() timed out",
    "connection timed out",
    "could not connect",
    "couldn't connect",
    "did not meet at",
    "distbackenderror",
    "distnetworkerror",
    "diststoreerror",
    "gateway time-out",
    "gateway timeout",
    "gloo/transport",
    "max retries exceeded",
    "name or service not known",
    "nccl communicator was aborted",
    "nccl error",
    "ncclinternalerror",
    "ncclremoteerror",
    "ncclsystemerror",
    "network is unreachable",
    "no route to host",
    "read timed out",
    "rendezvous",
    "service unavailable",
    "socket timeout",
    "temporary failure in name resolution",
    "timed out waiting for clients",
    "timed out waiting for recv operation",
    "timed out waiting for send operation",
    "too many requests",
)
SIGNS: tuple[tuple[Cause, tuple[str, ...]], ...] = (
    (Cause.INVALID_IMAGE, ("exec format error",)),  # made for another kind of processor
    (Cause.COMMUNICATION, LOCKED_MEMORY_SIGNS),
    (Cause.GPU_OUT_OF_MEMORY, GPU_MEMORY_SIGNS),
    (Cause.HOST_OUT_OF_MEMORY, HOST_MEMORY_SIGNS),
    (Cause.USER_ERROR, CODE_SIGNS),
    (Cause.CRASH, DEVICE_SIGNS),
    (Cause.COMMUNICATION, COMMUNICATION_SIGNS),
)
SERVICE_ERROR = re.compile(
    r"\((?:50[0234]|slowdown|serviceunavailable|internalerror|requesttimeout|throttling\w*|toomanyrequests\w*)\)"
    r"|\b50[0234] server error\b|\bhttp error 50[0234]\b|\bstatus(?: code)?:? 50[0234]\b"
    r"|please reduce your request rate|(?:read|connect) timeout on endpoint"
    r"|^[\w.]*(?:connectionerror|connecttimeouterror|readtimeouterror|incompleteread|clientconnectorerror)\b"
)
"""Of an exception, in small letters: a service that could not answer just then, as botocore and others say it.

https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html#ErrorCodeList"""
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
    last = telling_line(pod)
    if CODE_ERROR.match(last) and signed not in (Cause.COMMUNICATION, Cause.CRASH):
        return _came_of(pod.log_tail) or Cause.USER_ERROR
    return signed or (Cause.COMMUNICATION if SERVICE_ERROR.search(last.lower()) else Cause.CRASH)


def _came_of(text: str) -> Cause | None:
    """Code that stumbles over what went wrong before it is not at fault; None where nothing such is told."""
    for exception in map(str.lower, earlier_exceptions(text)):
        if SERVICE_ERROR.search(exception):
            return Cause.COMMUNICATION
        if found := _signed(exception):
            return found
    return None


def cause_of_code(exit_code: int) -> Cause:
    """Where nothing else is known: a pod that is gone may have been killed because it was deleted."""
    if exit_code == ExitCode.OUT_OF_MEMORY:
        return Cause.HOST_OUT_OF_MEMORY
    return EXIT_CODES.get(exit_code, Cause.UNKNOWN)


def _signed(text: str) -> Cause | None:
    return next((cause for cause, signs in SIGNS if any(sign in text for sign in signs)), None)


def telling_line(pod: PodFacts) -> str:
    """Of a message the first line says it, with the next one that it announces; of a log, or a traceback, the last."""
    lines = pod.log_tail.splitlines()
    if not lines:
        return ""
    if not pod.message or "Traceback" in lines[0]:
        return lines[-1]
    return " ".join(line.strip() for line in lines[: 2 if lines[0].endswith(":") else 1])


def exit_words(exit_code: int | None) -> str:
    """`exit code 137 (SIGKILL)`."""
    if exit_code is None:
        return "the pod failed"
    signal = SIGNALS.get(exit_code)
    return f"exit code {exit_code}{f' ({signal})' if signal else ''}"
