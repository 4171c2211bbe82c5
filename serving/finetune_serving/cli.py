"""finetune-serving: the command of an inference pod."""

import argparse
import asyncio
import logging
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from finetune_api.names import SCRATCH_MOUNT, SERVING_PORT
from finetune_serving.settings import Limits, ModelSource, Settings, Shutdown

LOG_FORMAT = "%(asctime)s %(levelname)s %(message)s"


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, serve, and end the process with the exit code."""
    settings = parse(arguments)
    logging.getLogger("torchao").setLevel(logging.ERROR)  # names the kernels of processors that are not here
    logging.getLogger("bitsandbytes.backends").setLevel(logging.ERROR)  # names a kernel that few models would use
    logging.getLogger("torch.utils._pytree").setLevel(logging.ERROR)  # tells torchao's authors of a call
    logging.basicConfig(level=logging.INFO, format=LOG_FORMAT, stream=sys.stderr)
    # Imported late: `--help` and a wrong flag need no PyTorch.
    from finetune_serving.server import serve

    code = asyncio.run(serve(settings))
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    # A forward pass cannot be interrupted, and Python would wait for its thread.
    os._exit(code)


def parse(arguments: Sequence[str] | None = None) -> Settings:
    """Settings from the command line; ends the process with status 2 and a message when they are wrong."""
    parser = _parser()
    given = parser.parse_args(arguments)
    return Settings(
        model=ModelSource(
            uri=given.model,
            scratch=Path(given.scratch),
            name=given.name,
            version=given.version_name,
            digest=given.digest,
            base_uri=given.base_model,
            base_digest=given.base_digest,
            base_revision=given.base_revision,
            trust_remote_code=given.trust_remote_code,
        ),
        host=given.host,
        port=given.port,
        limits=Limits(
            max_request_bytes=given.max_request_bytes,
            request_timeout=given.request_timeout,
            max_concurrency=given.max_concurrency,
            max_batch_size=given.max_batch_size,
            max_batch_delay=given.max_batch_delay,
        ),
        shutdown=Shutdown(drain_delay=given.drain_delay, grace_period=given.grace_period),
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="finetune-serving",
        description="Serve one fine-tuned model over HTTP.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    _add_model_arguments(parser.add_argument_group("model"))
    server = parser.add_argument_group("server")
    server.add_argument("--host", default="0.0.0.0", help="address to listen on")
    server.add_argument("--port", type=_port, default=SERVING_PORT, help="port to listen on")
    _add_limit_arguments(parser.add_argument_group("limits of one request"))
    shutdown = parser.add_argument_group("shutdown on SIGTERM")
    defaults = Shutdown()
    shutdown.add_argument(
        "--drain-delay",
        type=_seconds,
        default=defaults.drain_delay,
        metavar="SECONDS",
        help="not ready but still answering, so that load balancers notice",
    )
    shutdown.add_argument(
        "--grace-period",
        type=_seconds,
        default=defaults.grace_period,
        metavar="SECONDS",
        help="then, for the requests in progress",
    )
    return parser


def _add_model_arguments(group: "argparse._ArgumentGroup") -> None:
    group.add_argument(
        "--model", required=True, metavar="URI", help="artifact: a folder, pvc://, file://, s3:// or hf://"
    )
    group.add_argument("--name", default="model", help="name under which it is served")
    group.add_argument("--version-name", default="1", metavar="NAME", help="version under which it is served")
    group.add_argument("--digest", type=_digest, help="sha256:… of the artifact's manifest.json")
    group.add_argument("--base-model", metavar="URI", help="base model of an adapter")
    group.add_argument("--base-digest", type=_digest, help="sha256:… of the base model's manifest.json")
    group.add_argument(
        "--base-revision", metavar="REVISION", help="revision of an hf:// base model, where the artifact names none"
    )
    group.add_argument("--trust-remote-code", action="store_true", help="run Python code of the model")
    group.add_argument("--scratch", default=_scratch(), metavar="DIR", help="where remote files are fetched to")


def _add_limit_arguments(group: "argparse._ArgumentGroup") -> None:
    defaults = Limits()
    group.add_argument(
        "--max-request-bytes", type=_positive, default=defaults.max_request_bytes, metavar="N", help="else 413"
    )
    group.add_argument(
        "--request-timeout",
        type=_seconds,
        default=defaults.request_timeout,
        metavar="SECONDS",
        help="else 504, and the end of a stream",
    )
    group.add_argument(
        "--max-concurrency",
        type=_positive,
        default=defaults.max_concurrency,
        metavar="N",
        help="requests in progress, waiting ones included; more get 429",
    )
    group.add_argument(
        "--max-batch-size", type=_positive, default=defaults.max_batch_size, metavar="N", help="texts a batch"
    )
    group.add_argument(
        "--max-batch-delay",
        type=_seconds,
        default=defaults.max_batch_delay,
        metavar="SECONDS",
        help="how long the first text of a batch waits for others",
    )


def _scratch() -> str:
    return SCRATCH_MOUNT if os.path.isdir(SCRATCH_MOUNT) else os.path.join(tempfile.gettempdir(), "finetune")


def _port(text: str) -> int:
    if not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"must be 0 to 65535; got {text!r}")
    return int(text)


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more; got {text!r}")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1
    if not 0 <= seconds < 86400:
        raise argparse.ArgumentTypeError(f"must be seconds, 0 to 86400; got {text!r}")
    return seconds


def _digest(text: str) -> str:
    prefix, _, digits = text.partition(":")
    if prefix != "sha256" or len(digits) != 64 or set(digits) - set("0123456789abcdef"):
        raise argparse.ArgumentTypeError(f"must be sha256: and 64 hexadecimal digits; got {text!r}")
    return text
