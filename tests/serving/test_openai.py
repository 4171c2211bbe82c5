"""OpenAI's API over real HTTP."""

import json
import threading
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

from finetune_api.artifact import ArtifactDescription
from finetune_serving.generation import Generator, Sampling
from finetune_serving.loading import LoadedModel
from serving.artifacts import byte_tokenizer, finish, gpt2
from serving.in_process import serving

PROMPT = "hello"


@cache
def expected(prompt: str, tokens: int) -> str:
    """What the model itself writes at temperature 0, without the server."""
    tokenizer, model = byte_tokenizer(256), gpt2()
    ids = tokenizer(prompt, return_tensors="pt")
    with torch.inference_mode():
        written = model.generate(**ids, max_new_tokens=tokens, do_sample=False, pad_token_id=0)[0]
    return str(tokenizer.decode(written[ids["input_ids"].shape[1] :], skip_special_tokens=True))


def complete(client: httpx.Client, **fields: Any) -> dict[str, Any]:
    body = {"model": "writer", "prompt": PROMPT, "max_tokens": 12, "temperature": 0} | fields
    response = client.post("/v1/completions", json=body)
    assert response.status_code == 200, response.text
    return dict(response.json())


def events(client: httpx.Client, path: str, body: dict[str, Any]) -> list[str]:
    """The data of every server-sent event."""
    with client.stream("POST", path, json=body) as response:
        assert response.status_code == 200, response.read()
        assert response.headers["content-type"].startswith("text/event-stream")
        return [line.removeprefix("data: ") for line in response.iter_lines() if line]


def test_lists_the_one_model(generator: httpx.Client) -> None:
    (model,) = generator.get("/v1/models").json()["data"]
    assert (model["id"], model["object"], model["version"]) == ("writer", "model", "writer-1")
    assert generator.get("/v1/models/writer").json() == model
    assert generator.get("/v1/models/other").json()["error"]["code"] == "model_not_found"


def test_writes_what_the_model_writes(generator: httpx.Client) -> None:
    answer = complete(generator)
    (choice,) = answer["choices"]
    assert choice["text"] == expected(PROMPT, 12)
    assert answer["object"] == "text_completion"
    assert answer["usage"]["prompt_tokens"] == len(PROMPT)
    assert answer["usage"]["total_tokens"] == len(PROMPT) + answer["usage"]["completion_tokens"]
    full = answer["usage"]["completion_tokens"] == 12
    assert choice["finish_reason"] == ("length" if full else "stop")


def test_several_prompts_get_an_answer_each(generator: httpx.Client) -> None:
    choices = complete(generator, prompt=["hello", "abc"])["choices"]
    assert [choice["index"] for choice in choices] == [0, 1]
    assert [choice["text"] for choice in choices] == [expected("hello", 12), expected("abc", 12)]


def test_token_ids_are_a_prompt_too(generator: httpx.Client) -> None:
    ids = byte_tokenizer(256)(PROMPT)["input_ids"]
    assert complete(generator, prompt=ids)["choices"] == complete(generator)["choices"]


def test_a_stream_carries_the_same_text(generator: httpx.Client) -> None:
    body = {"model": "writer", "prompt": PROMPT, "max_tokens": 12, "temperature": 0, "stream": True}
    *chunks, done = events(generator, "/v1/completions", body | {"stream_options": {"include_usage": True}})
    assert done == "[DONE]"
    *parsed, last = [json.loads(chunk) for chunk in chunks]
    assert len(parsed) > 2, "it comes in pieces"
    whole = complete(generator)
    assert "".join(chunk["choices"][0]["text"] for chunk in parsed) == whole["choices"][0]["text"]
    assert parsed[-1]["choices"][0]["finish_reason"] == whole["choices"][0]["finish_reason"]
    assert (last["choices"], last["usage"]) == ([], whole["usage"])
    assert len({chunk["id"] for chunk in parsed}) == 1


def test_a_chat_is_written_with_the_template(generator: httpx.Client) -> None:
    messages = [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]
    body = {"model": "writer", "messages": messages, "max_completion_tokens": 8, "temperature": 0}
    response = generator.post("/v1/chat/completions", json=body)
    assert response.status_code == 200, response.text
    (choice,) = response.json()["choices"]
    assert choice["message"] == {"role": "assistant", "content": expected("user: hi\nassistant:", 8)}

    *chunks, done = events(generator, "/v1/chat/completions", body | {"stream": True})
    assert done == "[DONE]"
    deltas = [json.loads(chunk)["choices"][0]["delta"] for chunk in chunks]
    assert deltas[0]["role"] == "assistant"
    assert "".join(delta["content"] for delta in deltas) == choice["message"]["content"]


def test_a_seed_repeats_the_sample(generator: httpx.Client) -> None:
    def sample(seed: int) -> str:
        return str(complete(generator, temperature=1.5, seed=seed, max_tokens=40)["choices"][0]["text"])

    assert sample(1) == sample(1)
    assert len({sample(seed) for seed in range(4)}) > 1


@pytest.mark.parametrize("choice", [{"temperature": 1, "top_p": 1e-6}, {"temperature": 1e-300}])
def test_a_small_choice_leaves_the_likeliest_token(generator: httpx.Client, choice: dict[str, float]) -> None:
    assert complete(generator, **choice)["choices"][0]["text"] == expected(PROMPT, 12)


def test_beams_that_the_base_model_asks_for_are_left_out() -> None:
    """BART's summarisers and Marian's translators are published so, and no token is certain before the last beam ends:
    https://huggingface.co/facebook/bart-large-cnn/blob/main/generation_config.json"""
    model, tokenizer = gpt2(), byte_tokenizer(256)
    model.generation_config.num_beams, model.generation_config.early_stopping = 4, True
    tokenizer.pad_token = tokenizer.eos_token
    writer = Generator(LoadedModel(model, tokenizer, ArtifactDescription(task="TextGeneration"), 256))
    for sampling in (Sampling(12, temperature=0), Sampling(12, top_p=1e-6)):
        written: list[int] = []
        writer.generate(writer.encode(PROMPT), sampling, written.append, threading.Event())
        assert writer.decode(written) == expected(PROMPT, 12)


def test_a_stop_string_ends_the_text_before_it(generator: httpx.Client) -> None:
    text = expected(PROMPT, 40)
    stop = text[5:8]
    (choice,) = complete(generator, max_tokens=40, stop=stop)["choices"]
    assert choice["text"] == text[: text.index(stop)]
    assert choice["finish_reason"] == "stop"


@pytest.mark.parametrize(
    ("fields", "param", "says"),
    [
        ({"temperature": 9}, "temperature", "got 9"),
        ({"top_p": 0}, "top_p", "greater than 0"),
        ({"max_tokens": 0}, "max_tokens", "greater than or equal to 1"),
        ({"max_tokens": 1000}, "max_tokens", "ask for at most 251"),
        ({"prompt": "x" * 300}, "prompt", "shorten it"),
        ({"n": 2}, "body", "n is not supported"),
        ({"logprobs": 3}, "body", "logprobs is not supported"),
        ({"top_k": 5}, "body", "top_k is not supported; remove it"),
        ({"temprature": 0}, "body", "temprature is not supported; did you mean 'temperature'?"),
        ({"stop": ["a"] * 5}, "stop", "at most 4"),
        ({"stop": [""]}, "stop[0]", "at least 1 character"),
        ({"prompt": []}, "prompt", "must be a text"),
        ({"prompt": [1, 999]}, "prompt[1]", "below 257"),
        ({"prompt": None}, "prompt", "must be a text"),
        ({"prompt": ["a", "b\ud83d"]}, "prompt", "character 1 is half of a surrogate pair ('\\ud83d')"),
    ],
)
def test_bad_fields_are_named(generator: httpx.Client, fields: dict[str, Any], param: str, says: str) -> None:
    response = generator.post("/v1/completions", content=json.dumps({"model": "writer", "prompt": PROMPT} | fields))
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert says in error["message"]
    assert error["param"] == param


def test_what_a_chat_asks_too_much_of_is_named_as_it_was_written(generator: httpx.Client) -> None:
    def error(content: str, **fields: Any) -> tuple[str, str]:
        turns = [{"role": "user", "content": content, **fields.pop("turn", {})}]
        response = generator.post("/v1/chat/completions", json={"model": "writer", "messages": turns} | fields)
        assert response.status_code == 400, response.text
        return response.json()["error"]["param"], response.json()["error"]["message"]

    assert error("x" * 300)[0] == "messages"
    assert error("x", max_completion_tokens=1000)[0] == "max_completion_tokens"
    assert error("x", max_tokens=1000)[0] == "max_tokens"
    field, message = error("x", turn={"tool_calls": [{"id": "1"}]})
    assert field == "messages[0].tool_calls"
    assert "is not supported; write what was called into content" in message


def test_what_changes_no_answer_is_taken(generator: httpx.Client) -> None:
    extras = {"user": "me", "metadata": {"a": "b"}, "top_k": -1, "logprobs": None, "stop": None, "n": 1}
    extras |= {
        "repetition_penalty": 1.0,
        "skip_special_tokens": True,
        "length_penalty": 1.0,
        "priority": 0,
    }  # vLLM's own
    assert complete(generator, **extras)["choices"] == complete(generator)["choices"]


async def test_without_a_seed_no_two_servers_draw_the_same(generator_folder: Path) -> None:
    """PyTorch's generator begins with the same number in every process."""
    body = {"model": "model", "prompt": PROMPT, "max_tokens": 24, "temperature": 1}
    texts = set()
    for _ in range(2):
        torch.manual_seed(0)
        async with serving(generator_folder) as server:
            texts.add((await server.client.post("/v1/completions", json=body)).json()["choices"][0]["text"])
    assert len(texts) == 2


def test_the_wrong_model_is_refused(generator: httpx.Client) -> None:
    response = generator.post("/v1/completions", json={"model": "gpt-5", "prompt": PROMPT})
    assert response.status_code == 404
    assert "use 'writer'" in response.json()["error"]["message"]


def test_only_text_parts_are_supported(generator: httpx.Client) -> None:
    parts = [{"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}}]
    body = {"model": "writer", "messages": [{"role": "user", "content": parts}]}
    error = generator.post("/v1/chat/completions", json=body).json()["error"]
    assert error["param"] == "messages[0].content[0].type"
    assert "'text'" in error["message"]
    halved = {"model": "writer", "messages": [{"role": "user", "content": "\udc00"}]}
    error = generator.post("/v1/chat/completions", content=json.dumps(halved)).json()["error"]
    assert (error["param"], error["type"]) == ("messages[0].content[0].text", "invalid_request_error")


def test_what_the_template_refuses_is_a_bad_request(generator: httpx.Client) -> None:
    body = {"model": "writer", "messages": [{"role": "wizard", "content": "abracadabra"}]}
    response = generator.post("/v1/chat/completions", json=body)
    assert response.status_code == 400
    assert "unknown role wizard" in response.json()["error"]["message"]


def test_counts_tokens(generator: httpx.Client) -> None:
    def tokens() -> float:
        lines = generator.get("/metrics").text.splitlines()
        name = "finetune_serving_generated_tokens_total "
        return float(next(line for line in lines if line.startswith(name)).removeprefix(name))

    before = tokens()
    answer = complete(generator)
    assert tokens() - before == answer["usage"]["completion_tokens"]


@pytest.mark.parametrize("learnt", ["<|end|>", "!"], ids=["of the tokenizer", "of a turn"])
async def test_the_end_that_was_learnt_ends_a_text_whatever_the_generation_config_says(
    learnt: str, tmp_path: Path
) -> None:
    """Training ends texts with the tokenizer's token, and turns with the template's; base models are published with
    others."""
    model, tokenizer = gpt2(), byte_tokenizer(256, "{% for m in messages %}{{ m.content }}!{% endfor %}")
    tokenizer.add_special_tokens({"additional_special_tokens": ["!"]})
    with torch.no_grad():
        model.transformer.ln_f.weight.zero_()
        end = model.transformer.wte.weight[tokenizer.convert_tokens_to_ids(learnt)]
        model.transformer.ln_f.bias.copy_(100 * end)  # always
    model.generation_config.eos_token_id = 7
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    finish(tmp_path, ArtifactDescription(task="TextGeneration"))
    async with serving(tmp_path, name="ends") as server:
        body = {"model": "ends", "prompt": "hello", "temperature": 0, "max_tokens": 5}
        answer = (await server.client.post("/v1/completions", json=body)).json()
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert answer["usage"]["completion_tokens"] == 1
