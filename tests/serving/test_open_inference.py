"""Open Inference Protocol v2 over real HTTP."""

import json
from typing import Any

import httpx
import pytest
import torch

from promlint import problems
from serving.artifacts import LABELS, bert, word_tokenizer

INFER = "/v2/models/tickets/infer"


def request(texts: list[Any], **fields: Any) -> dict[str, Any]:
    return {"inputs": [{"name": "text", "shape": [len(texts)], "datatype": "BYTES", "data": texts}], **fields}


def expected_scores(text: str) -> list[float]:
    """What the model itself says, without the server."""
    with torch.inference_mode():
        logits = bert()(**word_tokenizer(32)(text, return_tensors="pt")).logits
    return torch.softmax(logits[0], dim=-1).tolist()


def outputs(response: httpx.Response) -> dict[str, dict[str, Any]]:
    assert response.status_code == 200, response.text
    return {output["name"]: output for output in response.json()["outputs"]}


def test_answers_what_the_model_says(classifier: httpx.Client) -> None:
    texts = ["my invoice is wrong", "app crashes when i open it", "love"]
    found = outputs(classifier.post(INFER, json=request(texts, id="42")))
    assert found["label"]["datatype"] == "BYTES"
    assert found["scores"]["datatype"] == "FP32"
    assert found["scores"]["shape"] == [3, len(LABELS)]
    assert found["scores"]["parameters"]["labels"] == LABELS
    for index, text in enumerate(texts):
        expected = expected_scores(text)
        row = found["scores"]["data"][index * 3 : index * 3 + 3]
        assert row == pytest.approx(expected, abs=1e-5)
        assert found["label"]["data"][index] == LABELS[expected.index(max(expected))]


def test_the_answer_names_request_model_and_version(classifier: httpx.Client) -> None:
    path = "/v2/models/tickets/versions/tickets-1/infer"
    body = classifier.post(path, json=request(["love it"], id="42")).json()
    assert (body["id"], body["model_name"], body["model_version"]) == ("42", "tickets", "tickets-1")


def test_only_the_outputs_that_were_asked_for(classifier: httpx.Client) -> None:
    assert list(outputs(classifier.post(INFER, json=request(["love"], outputs=[{"name": "label"}])))) == ["label"]


def test_data_may_be_nested(classifier: httpx.Client) -> None:
    flat = outputs(classifier.post(INFER, json=request(["love", "bug"])))
    tensor = {"name": "text", "shape": [2, 1], "datatype": "BYTES", "data": [["love"], ["bug"]]}
    assert outputs(classifier.post(INFER, json={"inputs": [tensor]})) == flat


def test_a_body_without_content_type_is_json(classifier: httpx.Client) -> None:
    content = '{"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["love"]}]}'
    response = classifier.post(INFER, content=content, headers={"content-type": "application/x-www-form-urlencoded"})
    assert response.status_code == 200, response.text


def test_metadata(classifier: httpx.Client) -> None:
    assert classifier.get("/v2").json()["name"] == "finetune-serving"
    model = classifier.get("/v2/models/tickets").json()
    assert model["versions"] == ["tickets-1"]
    assert model["inputs"] == [{"name": "text", "datatype": "BYTES", "shape": [-1]}]
    assert model["outputs"][1]["parameters"]["labels"] == LABELS
    assert classifier.get("/v2/models/tickets/versions/tickets-1").json() == model
    assert classifier.get("/v2/models/tickets/ready").json() == {"name": "tickets", "ready": True}
    assert classifier.get("/v2/health/live").json() == {"live": True}


TENSOR = {"name": "text", "shape": [1], "datatype": "BYTES", "data": ["love"]}


@pytest.mark.parametrize(
    ("body", "field", "says"),
    [
        ({}, "inputs", "required"),
        ({"inputs": []}, "inputs", "exactly one input named 'text'; got none"),
        ({"inputs": [TENSOR | {"name": "x"}]}, "inputs", "got 'x'"),
        ({"inputs": [TENSOR, TENSOR]}, "inputs", "exactly one"),
        ({"inputs": [TENSOR | {"datatype": "FP32"}]}, "inputs[0].datatype", "must be BYTES; got 'FP32'"),
        ({"inputs": [TENSOR | {"shape": [2]}]}, "inputs[0].shape", "says 2 values, data has 1"),
        ({"inputs": [TENSOR | {"shape": [1, 2]}]}, "inputs[0].shape", "[n, 1]"),
        ({"inputs": [TENSOR | {"shape": [0], "data": []}]}, "inputs[0].data", "1 to 1024 values; got 0"),
        ({"inputs": [TENSOR | {"data": [7]}]}, "inputs[0].data[0]", "must be a string; got 7"),
        ({"inputs": [TENSOR | {"data": ["\ud83d"]}]}, "inputs[0].data[0]", "half of a surrogate pair"),
        ({"inputs": [TENSOR], "id": "\ud83d"}, "id", "half of a surrogate pair"),
        ({"inputs": [TENSOR | {"data": ["love " * 40]}]}, "inputs[0].data[0]", "42 tokens, the model takes 32"),
        ({"inputs": [TENSOR], "outputs": [{"name": "logits"}]}, "outputs[0].name", "got 'logits'"),
        ({"inputs": [TENSOR], "colour": "red"}, "colour", "Extra inputs"),
        ({"inputs": [TENSOR | {"parameters": {"binary_data_size": 4}}]}, "inputs[0].parameters", "binary"),
    ],
)
def test_bad_input_is_named(classifier: httpx.Client, body: dict[str, Any], field: str, says: str) -> None:
    response = classifier.post(INFER, content=json.dumps(body))
    assert response.status_code == 400, response.text
    assert response.json()["field"] == field
    assert says in response.json()["error"]


@pytest.mark.parametrize("body", [b'{"inputs": [', b'{"id": "\xff"}', b"[" * 100_000])
def test_what_is_no_json_is_said_to_be_none(classifier: httpx.Client, body: bytes) -> None:
    response = classifier.post(INFER, content=body)
    assert response.status_code == 400
    assert response.json()["code"] == "invalid_json"
    assert "not JSON" in response.json()["error"]


def test_a_long_text_is_cut_only_on_request(classifier: httpx.Client) -> None:
    long = request(["love " * 40])
    assert classifier.post(INFER, json=long).json()["code"] == "text_too_long"
    assert outputs(classifier.post(INFER, json=long | {"parameters": {"truncate": True}}))["label"]["shape"] == [1]


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/v2/models/other/infer", "use 'tickets'"),
        ("/v2/models/tickets/versions/v9/infer", "use 'tickets-1'"),
        ("/v2/nowhere", "no such route"),
    ],
)
def test_unknown_paths(classifier: httpx.Client, path: str, says: str) -> None:
    response = classifier.post(path, json=request(["love"]))
    assert response.status_code == 404
    assert says in response.json()["error"]


def test_the_other_protocol_is_not_there(classifier: httpx.Client) -> None:
    response = classifier.post("/v1/completions", json={})
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "route_not_found"


def test_names_of_metrics_are_clean_by_the_rules_of_promtool(classifier: httpx.Client) -> None:
    assert problems(classifier.get("/metrics").text) == []


def test_metrics_count_by_route_template(classifier: httpx.Client) -> None:
    classifier.post(INFER, json=request(["love"]))
    classifier.post(INFER, json={})
    text = classifier.get("/metrics").text
    route = "/v2/models/{name}/infer"
    for code in ("200", "400"):
        assert f'finetune_serving_requests_total{{code="{code}",route="{route}"}}' in text
    assert f'finetune_serving_request_duration_seconds_count{{route="{route}"}}' in text
    assert "finetune_serving_batch_size_bucket" in text
    assert 'finetune_serving_model_info{digest="sha256:' in text
    assert "finetune_serving_ready 1.0" in text
    assert "finetune_serving_requests_in_flight 0.0" in text
    assert "tickets/infer" not in text, "routes are bounded"
