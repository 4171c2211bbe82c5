"""Texts that are almost the same, by MinHash and locality-sensitive hashing (Leskovec et al., ch. 3)."""

import re

from datasketch import MinHash, MinHashLSH

from finetune_api.data_preparation import NearDuplicates

PERMUTATIONS = 128
"""Hash functions: an estimated share is right to about ±0.05."""


class NearDuplicateIndex:
    """The texts that stayed so far."""

    def __init__(self, settings: NearDuplicates) -> None:
        self._ngram = settings.ngram
        self._threshold = settings.threshold
        self._index = MinHashLSH(threshold=settings.threshold, num_perm=PERMUTATIONS)
        self._kept: list[MinHash] = []

    def seen(self, text: str) -> bool:
        """Whether a text like it stayed before; if not, this one stays."""
        signature = MinHash(num_perm=PERMUTATIONS, seed=1)
        signature.update_batch(self._ngrams(text))
        # The index finds candidates; their signatures decide.
        if any(signature.jaccard(self._kept[place]) >= self._threshold for place in self._index.query(signature)):
            return True
        self._index.insert(len(self._kept), signature)
        self._kept.append(signature)
        return False

    def _ngrams(self, text: str) -> list[bytes]:
        plain = re.sub(r"\s+", " ", text).strip().casefold()
        last = max(1, len(plain) - self._ngram + 1)
        return sorted({plain[start : start + self._ngram].encode() for start in range(last)})
