"""The OpenAI and Anthropic SDKs of examples/llm_clients.py, against servers that talk as a model server does."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from aibalance import LeastRequest, RoundRobin

from .backends import Got, Say, always, backends, inflight, record

pytest.importorskip("httpx2")
pytest.importorskip("openai")
pytest.importorskip("anthropic")

from examples import llm_clients

QUESTION: list[Any] = [{"role": "user", "content": "hello"}]
SSE = {"content-type": "text/event-stream"}


def chat(got: Got) -> Say:
    """A chat completion, or one in pieces."""
    assert got.target == "/v1/chat/completions"
    asked = json.loads(got.body)
    head = {"id": "1", "created": 1, "model": asked["model"]}
    if not asked.get("stream"):
        message = {"role": "assistant", "content": "good day"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        answer = {**head, "object": "chat.completion", "choices": [choice]}
        return Say(200, {"content-type": "application/json"}, json.dumps(answer).encode())
    parts = [{"index": 0, "delta": {"content": text}, "finish_reason": None} for text in ("good", " day")]
    events = [json.dumps({**head, "object": "chat.completion.chunk", "choices": [part]}) for part in parts]
    return Say(200, SSE, chunks=[f"data: {event}\n\n".encode() for event in [*events, "[DONE]"]], pause=0.05)


def message(got: Got) -> Say:
    """An answer of Messages, in pieces."""
    assert got.target == "/v1/messages"
    usage = {"input_tokens": 1, "output_tokens": 1}
    whole = {"id": "m", "type": "message", "role": "assistant", "model": "m", "content": [], "usage": usage}
    whole |= {"stop_reason": None, "stop_sequence": None}
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": whole},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *(
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}
            for text in ("good", " day")
        ),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}},
        {"type": "message_stop"},
    ]
    chunks = [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events]
    return Say(200, SSE, chunks=chunks, pause=0.02)


def test_openai() -> None:
    with backends(always(status=503), chat, chat) as servers:
        pool = llm_clients.pool_of([s.address for s in servers])
        with llm_clients.openai_client(RoundRobin(pool)) as client:
            answers = [client.chat.completions.create(model="m", messages=QUESTION) for _ in range(10)]
            assert {a.choices[0].message.content for a in answers} == {"good day"}
            with client.chat.completions.create(model="m", messages=QUESTION, stream=True) as stream:
                text = ""
                for event in stream:
                    text += event.choices[0].delta.content or ""
                    if text == "good":
                        assert inflight(pool) == 1
            assert text == "good day"
        assert inflight(pool) == 0
        assert record(pool, servers[0].address).ejected_until is not None
        assert len(servers[0].got) == 3


def test_openai_with_asyncio_left_early() -> None:
    with backends(chat, chat) as servers:
        pool = llm_clients.pool_of([s.address for s in servers])

        async def main() -> None:
            async with llm_clients.async_openai_client(LeastRequest(pool)) as client:
                stream = await client.chat.completions.create(model="m", messages=QUESTION, stream=True)
                async with stream:
                    async for event in stream:
                        assert event.choices[0].delta.content == "good"
                        assert inflight(pool) == 1
                        break
                assert inflight(pool) == 0

        asyncio.run(main())
        assert sum(r.cancelled for r in pool.stats()) == 1


def test_anthropic() -> None:
    with backends(message, always(status=429, headers={"retry-after": "30"})) as servers:
        pool = llm_clients.pool_of([s.address for s in servers])
        with llm_clients.anthropic_client(RoundRobin(pool)) as client:
            for _ in range(3):
                with client.messages.stream(model="m", max_tokens=9, messages=QUESTION) as stream:
                    assert "".join(stream.text_stream) == "good day"
        assert inflight(pool) == 0
        assert (len(servers[0].got), len(servers[1].got)) == (3, 1), "who says Retry-After rests"
