"""Engines by the name they have in `spec.distributed.engine`."""

from finetune_operator.engines.gang import Engine
from finetune_operator.engines.torchrun import Torchrun

ENGINES: dict[str, Engine] = {"Torchrun": Torchrun()}
