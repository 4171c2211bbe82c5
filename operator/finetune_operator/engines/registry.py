"""Engines by the name they have in `spec.distributed.engine`."""

from finetune_operator.engines.gang import Engine
from finetune_operator.engines.ray import RayCluster
from finetune_operator.engines.torchrun import Torchrun

ENGINES: dict[str, Engine] = {
    "Torchrun": Torchrun(),
    # DeepSpeed's processes meet as torchrun's do; its own launcher would need ssh between the pods.
    "DeepSpeed": Torchrun(),
    "Ray": RayCluster(),
}
