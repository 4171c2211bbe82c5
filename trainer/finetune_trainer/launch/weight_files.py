"""How many weights a model has, and where, from the headers of its files alone."""

import json
import re
import struct
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatch
from math import prod

from finetune_storage import Storage
from finetune_storage.errors import UnavailableError
from finetune_trainer.errors import ConfigurationError

WEIGHTS = "model*.safetensors"
"""What transformers loads; the weights of a repository may be there again in other forms."""
HEADERS_AT_ONCE = 8
LONGEST_HEADER = 100 * 2**20
OF_EXPERTS = re.compile(r"(^|\.)experts\.")
"""In the names of tensors. Shared experts are layers as any other."""


@dataclass(frozen=True)
class Weights:
    """Numbers of them."""

    all: int
    of_experts: int

    @property
    def share_of_experts(self) -> float:
        """Of all."""
        return self.of_experts / max(1, self.all)


def weights_in(storage: Storage, files: Collection[str]) -> Weights | None:
    """Of the model whose files these are; None where only downloading them would tell.

    Raises ConfigurationError for a damaged file, UnavailableError when the place stops answering.
    """
    found = [name for name in files if "/" not in name and fnmatch(name, WEIGHTS)]
    if not found:
        return None
    with ThreadPoolExecutor(HEADERS_AT_ONCE) as pool:
        parts = list(pool.map(lambda name: _weights_in(storage, name), found))
    return Weights(sum(part.all for part in parts), sum(part.of_experts for part in parts))


def _weights_in(storage: Storage, name: str) -> Weights:
    """https://huggingface.co/docs/safetensors#format"""
    try:
        with storage.open(name) as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            header = json.loads(stream.read(min(length, LONGEST_HEADER)))
        sizes = {key: prod(tensor["shape"]) for key, tensor in header.items() if key != "__metadata__"}
    except (struct.error, ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(f"model.source: {storage.uri}: {name} is no safetensors file: {error}") from error
    except OSError as error:
        raise UnavailableError(f"{storage.uri}: {name} cannot be read now: {error}") from error
    return Weights(sum(sizes.values()), sum(size for key, size in sizes.items() if OF_EXPERTS.search(key)))
