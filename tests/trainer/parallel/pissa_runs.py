"""PiSSA in shards, resumed where the decomposition gives other matrices."""

from functools import partial
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from finetune_api.distributed import DeepSpeed, Fsdp
from finetune_api.training import Training
from finetune_trainer.loop.plan import StepPlan
from finetune_trainer.methods.pissa import PissaAdaptation
from finetune_trainer.parallel.consolidation import whole_model
from finetune_trainer.parallel.fsdp import FullySharded
from finetune_trainer.parallel.zero import Zero, load_deepspeed
from finetune_trainer.ranks import Ranks

CPU = torch.device("cpu")
PLAN = StepPlan(total_steps=1, steps_per_epoch=1, micro_batch_size=1, accumulation=1, world_size=2, evaluate_every=1)
SIZES = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 48}


def pissa() -> PissaAdaptation:
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(vocab_size=64, **SIZES))
    lora = LoraConfig(r=4, target_modules=["q_proj"], task_type="CAUSAL_LM", init_lora_weights="pissa")
    return PissaAdaptation(get_peft_model(model, lora))


def logits(model: Any) -> Any:
    with torch.no_grad():
        return model(input_ids=torch.arange(6).view(1, 6)).logits.tolist()


def resumed(ranks: Ranks) -> Any:
    """By engine: logits while sharded, and of the whole model on rank 0; `expected` those of one process."""
    other = {name: 0.9 * tensor for name, tensor in pissa().state().items()}
    alone = pissa()
    alone.restore(other)
    found: dict[str, Any] = {"expected": logits(alone.model)}
    training, deepspeed = Training(), load_deepspeed(CPU)
    engines: dict[str, Any] = {
        "fsdp": partial(FullySharded, training=training, spec=Fsdp(), device=CPU, ranks=ranks),
        "zero-3": partial(Zero, training=training, plan=PLAN, spec=DeepSpeed(zero_stage=3), device=CPU, ranks=ranks),
    }
    for name, engine in engines.items():
        adaptation = pissa()
        if ranks.rank:  # a processor that rounds otherwise
            adaptation._initial = {key: tensor + 1 for key, tensor in adaptation.state().items()}
        adaptation.agree(ranks)
        strategy = engine(adaptation.model, **({"deepspeed": deepspeed} if name == "zero-3" else {}))
        adaptation.restore(other)
        sharded, whole = logits(strategy.module), whole_model(strategy, adaptation, pissa, ranks.rank)
        found[name] = [sharded, logits(whole.model) if ranks.rank == 0 else None]
    return found
