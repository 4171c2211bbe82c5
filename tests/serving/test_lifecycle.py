"""From listening to draining."""

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest

from finetune_api.exit_codes import ExitCode
from finetune_serving.classification import TextClassifier
from finetune_serving.settings import Shutdown
from serving.artifacts import classifier_artifact, endless_generator_artifact
from serving.conftest import StartServer
from serving.in_process import serving

STREAM: dict[str, Any] = {"model": "model", "prompt": "hello", "max_tokens": 300, "temperature": 0, "stream": True}


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("endless")
    endless_generator_artifact(folder, max_length=2000)
    return folder


def held_up(folder: Path) -> bytes:
    """Replace the manifest by a pipe: whoever reads it waits until someone writes."""
    manifest = folder / "manifest.json"
    content = manifest.read_bytes()
    manifest.unlink()
    os.mkfifo(manifest)
    return content


async def test_alive_before_it_is_loaded_and_ready_after(tmp_path: Path) -> None:
    classifier_artifact(tmp_path)
    content = held_up(tmp_path)
    async with serving(tmp_path, ready=False) as server:
        assert (await server.client.get("/v2/health/live")).status_code == 200
        early = await server.client.post("/v2/models/model/infer", json={})
        assert early.status_code == 503
        assert "loading" in early.json()["error"]
        assert early.headers["retry-after"] == "1"
        assert await server.metric("ready") == 0
        async with asyncio.timeout(60):
            while (await server.client.get("/v2/health/ready")).status_code != 200:
                await feed(tmp_path / "manifest.json", content)
        assert await server.metric("ready") == 1
        assert (await server.client.post("/v2/models/model/infer", json={})).status_code == 400


async def feed(pipe: Path, content: bytes) -> None:
    """Write to the pipe if someone reads it now."""
    try:
        descriptor = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:
        await asyncio.sleep(0.02)
        return
    os.write(descriptor, content)
    os.close(descriptor)
    await asyncio.sleep(0.02)


async def test_sigterm_finishes_what_runs_and_still_answers_for_a_while(endless: Path) -> None:
    shutdown = Shutdown(drain_delay=3, grace_period=60)
    async with serving(endless, shutdown=shutdown) as server:
        async with server.client.stream("POST", "/v1/completions", json=STREAM) as stream:
            lines = stream.aiter_lines()
            await anext(lines)
            os.kill(os.getpid(), signal.SIGTERM)
            while (await server.client.get("/v2/health/ready")).status_code == 200:
                await asyncio.sleep(0.02)
            late = await server.client.get("/v1/models")
            assert late.status_code == 200, "load balancers learn late"
            assert late.headers["connection"] == "close", "the next request should go elsewhere"
            rest = [line async for line in lines if line]
        assert rest[-1] == "data: [DONE]"
        last = json.loads(rest[-2].removeprefix("data: "))
        assert last["choices"][0]["finish_reason"] == "length"
        assert await server.task == ExitCode.DONE
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", server.port)


async def test_what_exceeds_the_grace_period_is_cut(endless: Path) -> None:
    async with serving(endless, shutdown=Shutdown(drain_delay=0, grace_period=1)) as server:
        body = STREAM | {"max_tokens": 1900}
        async with server.client.stream("POST", "/v1/completions", json=body) as stream:
            lines = stream.aiter_lines()
            await anext(lines)
            os.kill(os.getpid(), signal.SIGTERM)
            with pytest.raises(httpx.RemoteProtocolError):
                async for _ in lines:
                    pass
        assert await server.task == ExitCode.DONE


async def test_a_second_signal_skips_the_drain_delay(endless: Path) -> None:
    async with serving(endless, shutdown=Shutdown(drain_delay=3600, grace_period=1)) as server:
        os.kill(os.getpid(), signal.SIGTERM)
        while (await server.client.get("/v2/health/ready")).status_code == 200:
            await asyncio.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)
        async with asyncio.timeout(60):
            assert await server.task == ExitCode.DONE


async def test_a_model_that_cannot_answer_any_more_ends_its_server(
    classifier_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after an error of a GPU, which no later call of the process outlives: a new process does."""
    predict, broken = TextClassifier.predict, False
    texts: list[int] = []

    def faulty(self: TextClassifier, encodings: Any) -> Any:
        texts.append(len(encodings))
        if broken or any(len(encoding["input_ids"]) == 6 for encoding in encodings):
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        return predict(self, encodings)

    monkeypatch.setattr(TextClassifier, "predict", faulty)
    monkeypatch.setenv("FINETUNE_TERMINATION_FILE", str(tmp_path / "termination-log"))

    def infer(text: str) -> Any:
        body = {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": [text]}]}
        return server.client.post("/v2/models/model/infer", json=body)

    async with serving(classifier_folder) as server:
        assert (await infer("my invoice is wrong")).status_code == 500
        async with asyncio.timeout(60):
            while len(texts) < 3:  # that of the start, the request, and the one that asks whether it still answers
                await asyncio.sleep(0.02)
        assert (await infer("my invoice")).status_code == 200, "that one request was at fault"
        broken = True
        assert (await infer("my invoice")).status_code == 500
        async with asyncio.timeout(60):
            assert await server.task != ExitCode.DONE
    said = (tmp_path / "termination-log").read_text()
    assert said == (
        "the model no longer answers its warm-up request, so it starts again: "
        "CUDA error: an illegal memory access was encountered"
    )


def test_a_drained_process_exits_with_0_though_its_model_still_computes(
    start_server: StartServer, endless: Path
) -> None:
    server = start_server("--model", str(endless), "--drain-delay", "0.2", "--grace-period", "1").wait_ready()
    with httpx.stream("POST", f"{server.url}/v1/completions", json=STREAM | {"max_tokens": 1900}) as stream:
        next(stream.iter_lines())
        server.terminate()
        assert server.wait() == ExitCode.DONE
