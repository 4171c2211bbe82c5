"""How a run is spread over pods and processes, and what each of them holds of the model."""

from collections.abc import Iterator
from typing import Literal

from pydantic import Field, model_validator

from finetune_api.base import Schema, rule, schema_with
from finetune_api.errors import Problems

BOTH_SHARD = "deepspeed and fsdp both shard the model; keep one of them"
NEEDS_ENGINE = "deepspeed is for engines DeepSpeed and Ray; set engine, or remove deepspeed"
OTHER_ENGINE = "fsdp is for engines Torchrun and Ray; remove it, or set engine"
NOT_FEWER = "elastic.minNodes must be less than nodes; lower it, or remove elastic"
NOT_RAY = "ray is for engine Ray; set engine, or remove ray"
STAGE_3_ONLY = "offloadParameters needs zeroStage 3, which alone shards the parameters; set zeroStage to 3"


class DeepSpeed(Schema):
    """ZeRO (Rajbhandari et al. 2020, arXiv:1910.02054): no process holds everything."""

    model_config = schema_with(
        x_kubernetes_validations=[rule("!self.offloadParameters || self.zeroStage == 3", STAGE_3_ONLY)]
    )
    zero_stage: int = Field(
        2, ge=1, le=3, description="1 shards the optimizer state, 2 also the gradients, 3 also the parameters."
    )
    offload_optimizer: bool = False
    """Keep the optimizer state in host memory, and update the weights there."""
    offload_parameters: bool = False
    """Keep the shards of the parameters in host memory; stage 3 only."""

    @model_validator(mode="after")
    def offloads_what_it_shards(self) -> "DeepSpeed":
        if self.offload_parameters and self.zero_stage != 3:
            raise ValueError(STAGE_3_ONLY)
        return self


class Fsdp(Schema):
    """PyTorch's fully_shard (FSDP2): parameters, gradients and optimizer state are sharded, layer by layer."""

    reshard_after_forward: bool = Field(
        True, description="Free a layer's parameters between forward and backward; false trades memory for speed."
    )


class Ray(Schema):
    """The Ray cluster that a job's pods make: pod 0 is its head, and Ray Train runs the workers."""

    max_failures: int = Field(
        3,
        ge=0,
        le=100,
        description="How often Ray starts workers again in the same pods, from the newest checkpoint, before the "
        "attempt fails and failurePolicy decides.",
    )


class Elastic(Schema):
    """An attempt whose pods do not all find a node goes on with those that do."""

    min_nodes: int = Field(ge=1, le=1024, description="The fewest pods to train with; less than distributed.nodes.")
    wait_seconds: int = Field(
        300,
        ge=1,
        le=86400,
        description="How long every attempt waits for nodes for all of its pods, before it is made smaller.",
    )
    grow_seconds: int | None = Field(
        None,
        ge=1,
        le=604800,
        description="How long a smaller gang trains before nodes for the missing pods are sought. Once there are, it "
        "saves a checkpoint and goes on with them; without growSeconds nodes that come back wait for the next attempt.",
    )


class Distributed(Schema):
    """One pod a node, `processesPerNode` processes in each; every pod gets the same resources."""

    model_config = schema_with(
        x_kubernetes_validations=[
            rule("!(has(self.deepspeed) && has(self.fsdp))", BOTH_SHARD),
            rule("!has(self.deepspeed) || self.engine != 'Torchrun'", NEEDS_ENGINE),
            rule("!has(self.fsdp) || self.engine != 'DeepSpeed'", OTHER_ENGINE),
            rule("!has(self.elastic) || self.elastic.minNodes < self.nodes", NOT_FEWER),
            rule("!has(self.ray) || self.engine == 'Ray'", NOT_RAY),
        ]
    )
    engine: Literal["Torchrun", "DeepSpeed", "Ray"] = "Torchrun"
    """What runs the processes. Torchrun gives each a copy of the model, or shards it with fsdp; DeepSpeed shards it.
    Ray Train gives each a copy, or shards it with fsdp or deepspeed, and starts processes that died again by itself."""
    nodes: int = Field(1, ge=1, le=1024)
    """Pods. With elastic, the most."""
    elastic: Elastic | None = Field(None, description="Train with fewer pods while nodes are missing.")
    processes_per_node: int = Field(1, ge=1, le=64, description="Usually the number of GPUs of a pod.")
    deepspeed: DeepSpeed | None = Field(
        None, description="How DeepSpeed shards; its defaults when engine is DeepSpeed."
    )
    ray: Ray | None = Field(None, description="How Ray runs the workers; its defaults when engine is Ray.")
    fsdp: Fsdp | None = Field(None, description="Shard the model; without it every process holds a copy.")

    @property
    def world_size(self) -> int:
        return self.nodes * self.processes_per_node

    def of(self, nodes: int) -> "Distributed":
        """The same on so many nodes, no more and no fewer."""
        return self.model_copy(update={"nodes": nodes, "elastic": None})

    @property
    def zero(self) -> DeepSpeed | None:
        """How DeepSpeed shards the model, if it does."""
        return self.deepspeed or (DeepSpeed() if self.engine == "DeepSpeed" else None)

    @property
    def shards(self) -> bool:
        """Whether no process holds the whole model and its optimizer state."""
        return self.fsdp is not None or self.zero is not None

    @property
    def shards_weights(self) -> bool:
        """Whether no process holds the whole model."""
        return self.fsdp is not None or (self.zero is not None and self.zero.zero_stage == 3)

    @model_validator(mode="after")
    def one_way_to_shard(self) -> "Distributed":
        Problems.check(self._problems())
        return self

    def _problems(self) -> Iterator[str]:
        if self.deepspeed and self.fsdp:
            yield BOTH_SHARD
        if self.deepspeed and self.engine == "Torchrun":
            yield NEEDS_ENGINE
        if self.fsdp and self.engine == "DeepSpeed":
            yield OTHER_ENGINE
        if self.elastic and self.elastic.min_nodes >= self.nodes:
            yield NOT_FEWER
        if self.ray and self.engine != "Ray":
            yield NOT_RAY
