"""What is learnt from: completions of the model as it is, the same for the same weights and seed."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from finetune_api.dataset import Columns
from finetune_api.method import Method
from finetune_api.reinforcement import Reinforcement
from finetune_serving.settings import ModelSource
from finetune_trainer.data.encoded import Encoded, encode
from finetune_trainer.data.row import Row, Where
from finetune_trainer.errors import DataError
from finetune_trainer.methods import apply_method
from finetune_trainer.models.load import load_config, load_model
from finetune_trainer.reinforcement.losses import ADVANTAGES, REFERENCE, WEIGHTS
from finetune_trainer.reinforcement.rollouts import Rollouts, Written, prompted
from finetune_trainer.reinforcement.writing import Ends, greedy, left_padded, until_end
from finetune_trainer.tasks.pairs import completions_batch
from finetune_trainer.tasks.reinforcement_learning import ReinforcementLearning
from serving.in_process import serving
from trainer.in_process import run
from trainer.jobs import write_jsonl
from trainer.tasks.task_cases import CASES
from trainer.tasks.test_every_task import job_of

HERE = Where("d.jsonl", 1)


def task_of(**settings: Any) -> ReinforcementLearning:
    rewards = [{"length": {"tokens": 3}}]
    wanted = {"rewards": rewards, "groupSize": 3, "maxNewTokens": 5, **settings}
    return ReinforcementLearning(Columns(), Reinforcement.model_validate(wanted))


def prompts(task: ReinforcementLearning, tokenizer: Any) -> Encoded:
    texts = ["hello you", "question : one two"]
    return encode(task.encode([task.read(Row({"prompt": text}, HERE)) for text in texts], tokenizer, []))


def written(folder: Path, seed: list[int], **settings: Any) -> tuple[Written, Any, Any]:
    task = task_of(**settings)
    tokenizer = task.load_processor(folder)
    model = load_model(folder, load_config(folder, task), task, [], tokenizer).model.train()
    rewards = task.load_rewards()
    rollouts = Rollouts(task, rewards, model, None, tokenizer, "Float32", torch.device("cpu"))
    return rollouts.write(prompts(task, tokenizer), [0, 1], seed), tokenizer, model


def inputs_of(found: Written) -> torch.Tensor:
    return found.experience.batch(range(len(found.rewards)), pad=0).inputs["input_ids"]


def test_the_same_seed_writes_the_same_and_moves_no_generator(tiny_gpt2: Path) -> None:
    state = torch.get_rng_state()
    first, _, model = written(tiny_gpt2, [7, 0, 0, 0])
    assert model.training, "dropout is on again"
    torch.manual_seed(99)
    again, *_ = written(tiny_gpt2, [7, 0, 0, 0])
    other, *_ = written(tiny_gpt2, [7, 1, 0, 0])
    torch.testing.assert_close(first.experience.tensors(), again.experience.tensors(), atol=0, rtol=0)
    assert first.rewards == again.rewards
    assert inputs_of(first).tolist() != inputs_of(other).tolist()
    torch.set_rng_state(state)


@pytest.mark.parametrize("algorithm", ["GRPO", "RLOO"])
def test_every_written_token_counts_and_no_other(tiny_llama: Path, algorithm: str) -> None:
    found, tokenizer, _ = written(tiny_llama, [1], algorithm=algorithm)
    rows = 6
    batch = found.experience.batch(range(rows), pad=0)
    assert found.experience.sizes(range(rows)) == (rows, len(batch.targets))
    assert len(batch.targets) == len(batch.extras[ADVANTAGES])
    width = batch.inputs["input_ids"].shape[1]
    lengths = torch.bincount((batch.positions + 1) // width, minlength=rows)
    weights = batch.extras[WEIGHTS].split(lengths.tolist())
    expected = 1.0 if algorithm == "GRPO" else None
    for length, part in zip(lengths.tolist(), weights, strict=True):
        assert float(part.sum()) == pytest.approx(expected or length)
    starts = [" ".join(tokenizer.convert_ids_to_tokens(row[:2])) for row in batch.inputs["input_ids"]]
    assert starts == ["hello you"] * 3 + ["question :"] * 3
    assert not batch.extras[REFERENCE].any(), "nothing is asked of a reference that is not there"


@pytest.mark.parametrize("method", ["promptTuning", "pTuning", "prefixTuning"])
def test_prompts_of_any_length_are_continued_from_right_behind_virtual_tokens(method: str, tiny_gpt2: Path) -> None:
    """As each alone, and as the pass over whole texts that losses are made of has it. PEFT puts the padding of a batch
    between them."""
    tokenizer = task_of().load_processor(tiny_gpt2)
    base = load_model(tiny_gpt2, load_config(tiny_gpt2, task_of()), task_of(), [], tokenizer)
    model = apply_method(base, Method.model_validate({method: {"virtualTokens": 6}}), tokenizer, 1).model.eval()
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    asked, ends = [np.arange(10, 20), np.array([20, 21]), np.array([30])], Ends([2], 2)
    with torch.no_grad():
        together = until_end(greedy(model, left_padded(asked, pad=2), 8, ends), ends.ends)
        alone = [until_end(greedy(model, left_padded([one], pad=2), 8, ends), ends.ends)[0] for one in asked]
        batch = completions_batch(prompted(asked, together), pad=2)
        likeliest = task_of().outputs(model, batch).argmax(dim=-1).tolist()
    assert together == alone
    assert likeliest == [token for one in together for token in one]


def test_a_prompt_that_cannot_be_continued_is_named() -> None:
    with pytest.raises(DataError, match=r"d\.jsonl line 1: no column 'prompt'; the columns are: text\. Set dataset"):
        task_of().read(Row({"text": "hello"}, HERE))
    turns = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "thanks"}]
    with pytest.raises(DataError, match="the prompt ends with a turn of the assistant"):
        task_of().read(Row({"prompt": turns}, HERE))
    needs = task_of(rewards=[{"exactMatch": {"column": "solution"}}])
    with pytest.raises(DataError, match=r"no column 'solution'.*rewards\[0\]\.exactMatch\.column"):
        needs.read(Row({"prompt": "hello"}, HERE))


async def test_a_reward_model_scores_as_its_server_does(tmp_path: Path) -> None:
    case = CASES["reward-modeling-chats"]
    model, data = case.model(tmp_path / "model"), case.data(tmp_path / "data")
    run(job_of(case, tmp_path, model, data, maxSteps=4), tmp_path)
    source = f"file://{tmp_path / 'output'}"

    reinforcement = {"rewards": [{"model": {"source": source}}], "groupSize": 2, "maxNewTokens": 4}
    asked = write_jsonl(tmp_path / "prompts.jsonl", [{"prompt": [{"role": "user", "content": "hello"}]}] * 4)
    learner = CASES["leave-one-out-rewards"]
    settings = {"reinforcement": reinforcement, "maxSteps": 2, "batchSize": 4, "dataset": {"split": None}}
    result, losses = run(job_of(learner, tmp_path / "learner", model, asked, **settings), tmp_path / "learner")
    assert set(losses) == {1, 2}
    assert result.artifact_digest

    task = task_of(rewards=[{"model": {"source": source}}])
    completions = ["two thanks a", "two what is broken"]
    from finetune_trainer.reinforcement.rewards import Completion

    turns = [{"role": "user", "content": "question : six ten"}]
    task.reward_models = {source: ModelSource(source, tmp_path / "base")}
    ours = task.load_rewards().of([Completion(turns, t, 4, {}) for t in completions])
    async with serving(tmp_path / "output", name="tiny", version="1") as server:
        inputs = [
            {"name": name, "datatype": "BYTES", "shape": [2], "data": values} for name, values in case.inputs.items()
        ]
        response = await server.client.post("/v2/models/tiny/infer", json={"inputs": inputs})
    assert response.json()["outputs"][0]["data"] == pytest.approx(ours, rel=1e-5)
