"""Examples as preparation has them: on disk."""

import tempfile
from collections.abc import Iterable
from pathlib import Path

from finetune_trainer.data.examples import Example
from finetune_trainer.data.spool import Examples, Spool


def spooled(examples: Iterable[Example]) -> Examples:
    return Spool(Path(tempfile.gettempdir())).add(iter(examples))
