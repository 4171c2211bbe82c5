"""DeepSpeed's ZeRO, stages 1 to 3, with and without offload.

Its own checkpoints are pickles that only the same number of ranks can load, unless they are converted. Here its state
goes into ours, tensor by tensor, so any number of ranks, and any other strategy, can go on from it.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from finetune_api.distributed import DeepSpeed
from finetune_api.training import Training
from finetune_trainer.errors import ConfigurationError
from finetune_trainer.loop.optimizer import build_optimizer, trained_parameters
from finetune_trainer.loop.plan import StepPlan
from finetune_trainer.parallel.arrival import arriving
from finetune_trainer.parallel.sharded import Sharded
from finetune_trainer.ranks import Ranks

NEVER = 2**62


def load_deepspeed(device: torch.device) -> Any:
    """The package, set up for this device.

    Raises:
        ConfigurationError: It is not installed.
    """
    os.environ.setdefault("DS_ACCELERATOR", device.type)
    os.environ.setdefault("LOCAL_RANK", str(device.index or 0))  # it looks, and torchrun sets it
    try:
        import deepspeed
    except ImportError as error:
        raise ConfigurationError(
            f"distributed.engine: DeepSpeed cannot be imported ({error}): use an image with "
            "finetune-operator[deepspeed], or set engine to Torchrun"
        ) from error
    # Compiled at first use, for which an image would need a compiler; gloo does the same.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed(dist_backend="gloo" if device.type == "cpu" else "nccl", verbose=False)
    return deepspeed


def configuration(spec: DeepSpeed, training: Training, plan: StepPlan) -> dict[str, Any]:
    """DeepSpeed's own configuration of the run."""
    zero: dict[str, Any] = {"stage": spec.zero_stage}
    if spec.offload_optimizer:
        zero["offload_optimizer"] = {"device": "cpu"}
    if spec.offload_parameters:
        zero["offload_param"] = {"device": "cpu"}
    return {
        "train_micro_batch_size_per_gpu": plan.micro_batch_size,
        "gradient_accumulation_steps": plan.accumulation,
        "gradient_clipping": training.max_grad_norm,
        "zero_optimization": zero,
        # PyTorch's AdamW, which needs no compiler and is the one that every strategy has.
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        # What is kept stays in float32, as everywhere.
        "torch_autocast": {"enabled": training.precision == "BFloat16", "dtype": "bfloat16"},
        "steps_per_print": NEVER,
    }


def shard_weights(model: Any, settings: dict[str, Any], device: torch.device, ranks: Ranks, deepspeed: Any) -> None:
    """Stage 3: shards each of the model's layers, then what is left, as they arrive."""
    for part in arriving(model, device, ranks):
        deepspeed.zero.Init(module=part, config_dict_or_path=settings)


class Zero(Sharded):
    """Implements `Strategy`."""

    def __init__(
        self,
        model: Any,
        training: Training,
        plan: StepPlan,
        spec: DeepSpeed,
        device: torch.device,
        ranks: Ranks,
        deepspeed: Any,
    ) -> None:
        from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

        self._named = trained_parameters(model)
        super().__init__({name: tuple(parameter.shape) for name, parameter in self._named.items()}, device)
        optimizer = build_optimizer(model, self._named, training)
        self._stage = spec.zero_stage
        self._weight, self._moment = safe_get_full_fp32_param, safe_get_full_optimizer_state
        settings = configuration(spec, training, plan)
        if self._stage == 3:
            shard_weights(model, settings, device, ranks, deepspeed)
        self.model, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=settings)
        self.module = self.model
        self._zero = self.model.optimizer
        self._inner: torch.optim.Optimizer = self._zero.optimizer

    def warm_up(self, objective: Callable[[], Tensor]) -> None:
        """Nothing is settled in it."""

    def micro_batch(self, last: bool) -> AbstractContextManager[Any]:
        return self._counted(last)

    @contextmanager
    def _counted(self, last: bool) -> Iterator[None]:
        self.model.set_gradient_accumulation_boundary(last)
        yield
        if not last:
            self.model.step()

    def backward(self, objective: Tensor) -> None:
        self.model.backward(objective, scale_wrt_gas=False)

    def step(self, rate: float) -> Tensor:
        for group in self._zero.param_groups:
            group["lr"] = rate * group["scale"]
        self.model.step()
        # Infinite when DeepSpeed found a gradient that is no number, and left the weights alone.
        return torch.as_tensor(self.model.get_global_grad_norm(), dtype=torch.float32, device=self._device)

    def clear_gradients(self) -> None:
        """DeepSpeed does it in its step."""

    @property
    def _flat(self) -> list[Tensor]:
        """This rank's shards, in float32, as the optimizer sees them."""
        groups = (
            self._zero.fp32_partitioned_groups_flat if self._stage == 3 else self._zero.single_partition_of_fp32_groups
        )
        return list(groups)

    def _whole(self, name: str) -> Tensor:
        whole: Tensor = self._weight(self._named[name])
        return whole

    def _whole_state(self, name: str) -> dict[str, Tensor]:
        first = self._inner.state.get(self._flat[0], {})
        parts = {key: value for key, value in first.items() if torch.is_tensor(value)}
        flat = {key for key, value in parts.items() if value.shape == self._flat[0].shape}
        return {key: self._moment(self._named[name], key) if key in flat else value for key, value in parts.items()}

    def _put(self, name: str, whole: Tensor) -> None:
        parameter = self._named[name]
        self._cut(parameter, whole, None)
        if self._stage < 3:
            parameter.data.copy_(whole)
            return
        parameter.ds_tensor.data.copy_(self._slice(parameter, whole))  # type: ignore[attr-defined]
        if parameter.numel():  # small ones, which every rank keeps
            parameter.data.copy_(whole)

    def load_optimizer_state(self, saved: Mapping[str, Tensor]) -> None:
        if not saved:
            return
        some = next(iter(saved)).rsplit("/", 1)[0]
        parts = {key.rsplit("/", 1)[1]: value for key, value in saved.items() if key.rsplit("/", 1)[0] == some}
        for flat in self._flat:
            for key, value in parts.items():
                moment = value.shape == self._shapes[some]
                self._inner.state[flat][key] = torch.zeros_like(flat) if moment else value.to(flat.device).clone()
        self._link()
        super().load_optimizer_state(saved)

    def optimizer_state(self) -> dict[str, Tensor]:
        if self._inner.state:
            self._link()
        return super().optimizer_state()

    def _link(self) -> None:
        """Lets stages 1 and 2 find each parameter's moments in the flat ones.

        DeepSpeed looks once, after the first group of parameters was updated, and misses those of the other groups.
        """
        if self._stage < 3:
            self._zero._hp_optimizer_states_linked = False
            self._zero._lazy_init_hp_params_optimizer_state()

    def _put_state(self, name: str, whole: Mapping[str, Tensor]) -> None:
        for key, value in whole.items():
            if value.shape == self._shapes[name] and key != "step":
                self._cut(self._named[name], value, key)

    def _cut(self, parameter: Any, whole: Tensor, key: str | None) -> None:
        """Puts this rank's part of a parameter, or of a moment of it, into the optimizer."""
        if self._stage < 3:
            parameter.set_full_hp_param(whole.to(self._device), key)
        else:
            self._zero.set_local_hp_param(self._slice(parameter, whole), parameter, key)

    def _slice(self, parameter: Any, whole: Tensor) -> Tensor:
        """This rank's slice of the flat parameter, which is padded so that all slices are equal."""
        size = parameter.ds_tensor.numel()
        padded = torch.zeros(size * dist.get_world_size(), device=self._device)
        padded[: whole.numel()] = whole.flatten().to(self._device)
        return padded[size * dist.get_rank() :][:size]
