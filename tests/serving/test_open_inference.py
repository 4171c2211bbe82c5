"""Open Inference Protocol v2 over real HTTP."""

from typing import Any

import httpx
import pytest
import torch

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
