"""Texts that are almost the same, by MinHash and locality-sensitive hashing (Leskovec et al., ch. 3)."""

import os
import re
import tempfile
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from datasketch import MinHash, MinHashLSH

from finetune_api.data_preparation import NearDuplicates

PERMUTATIONS = 128
"""Hash functions: an estimated share is right to about ±0.05."""
ROW_BYTES = PERMUTATIONS * np.dtype(np.uint32).itemsize
AT_ONCE = 1 << 16
"""Signatures in memory."""


def near_duplicates(texts: Iterable[str], settings: NearDuplicates, scratch: Path) -> np.ndarray:
    """Which texts are like one that came before and is not itself left out for that.

    The signatures are in a file of `scratch`. Two texts are candidates when a whole band of their signatures is equal;
    the share of the signature that is equal decides. Most texts share no band with any other, which sorting the bands
    tells; only the others are compared, and remembered.
    """
    with tempfile.TemporaryFile(dir=scratch) as file:
        for text in texts:
            file.write(_signature(text, settings.ngram).tobytes())
        file.flush()
        return _like_an_earlier_one(Signatures(file.fileno(), file.tell() // ROW_BYTES), settings.threshold)


@dataclass(frozen=True)
class Signatures:
    """Of `count` texts, in an open file."""

    file: int
    count: int

    def __len__(self) -> int:
        return self.count

    def read(self, start: int, count: int = 1) -> np.ndarray:
        """(count, PERMUTATIONS), or what there is."""
        found = os.pread(self.file, count * ROW_BYTES, start * ROW_BYTES)
        return np.frombuffer(found, np.uint32).reshape(-1, PERMUTATIONS)


def _like_an_earlier_one(signatures: Signatures, threshold: float) -> np.ndarray:
    bands = _bands(threshold)
    shared = np.stack([np.packbits(_repeated(_band_keys(signatures, band))) for band in bands])
    crowded = np.unpackbits(np.bitwise_or.reduce(shared), count=len(signatures)).astype(bool)
    kept: dict[tuple[int, bytes], list[int]] = defaultdict(list)
    result = np.zeros(len(signatures), bool)
    for place in np.flatnonzero(crowded).tolist():
        own = signatures.read(place)[0]
        numbers = np.flatnonzero(shared[:, place >> 3] & (0x80 >> (place & 7)))
        keys = [(int(number), own[bands[number]].tobytes()) for number in numbers]
        candidates = {other for key in keys for other in kept[key]}
        if any((own == signatures.read(other)[0]).mean() >= threshold for other in candidates):
            result[place] = True
            continue
        for key in keys:
            kept[key].append(place)
    return result


def _bands(threshold: float) -> list[slice]:
    """The stretches of a signature by which texts above the threshold are hardly ever missed.

    A candidate too many costs a comparison, one too few is a duplicate that stays.
    """
    index = MinHashLSH(threshold=threshold, num_perm=PERMUTATIONS, weights=(0.1, 0.9))
    return [slice(number * index.r, (number + 1) * index.r) for number in range(index.b)]


def _band_keys(signatures: Signatures, band: slice) -> np.ndarray:
    """One number a signature; equal bands have equal numbers."""
    factors = np.random.Generator(np.random.Philox(1)).integers(1 << 63, size=PERMUTATIONS, dtype=np.uint64) | 1
    keys = np.empty(len(signatures), np.uint64)
    for start in range(0, len(signatures), AT_ONCE):
        part = signatures.read(start, AT_ONCE)[:, band].astype(np.uint64)
        keys[start : start + AT_ONCE] = (part * factors[band]).sum(axis=1, dtype=np.uint64)
    return keys


def _repeated(keys: np.ndarray) -> np.ndarray:
    """Which numbers occur more than once."""
    order = np.argsort(keys)
    equal = np.diff(keys[order]) == 0
    result = np.zeros(len(keys), bool)
    result[order[1:][equal]] = True
    result[order[:-1][equal]] = True
    return result


def _signature(text: str, ngram: int) -> np.ndarray:
    signature = MinHash(num_perm=PERMUTATIONS, seed=1)
    signature.update_batch(_ngrams(text, ngram))
    return signature.hashvalues.astype(np.uint32)


def _ngrams(text: str, ngram: int) -> list[bytes]:
    plain = re.sub(r"\s+", " ", text).strip().casefold()
    last = max(1, len(plain) - ngram + 1)
    return sorted({plain[start : start + ngram].encode() for start in range(last)})
