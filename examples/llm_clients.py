"""The SDKs of OpenAI and Anthropic in front of model servers of your own: each request goes to the better of two.

pip install 'aibalance[httpx2]' openai anthropic        (SDKs of before 2026-08 bring httpx; then `module="httpx"`)
"""

import anthropic
import openai

import aibalance
from aibalance.integrations.httpx import async_transport, transport

OPTIONS = {
    "module": "httpx2",
    # A stream is as fast as its first token; how long it is says more of the question than of the server.
    "latency": "first_byte",
    # The SDKs only POST. A completion that is computed twice is a waste, not a fault; leave it out if you disagree.
    "non_idempotent": True,
}


def pool_of(addresses):
    """Endpoints that are put out after three errors in a row."""
    return aibalance.Pool(addresses, passive=aibalance.OutlierDetection(consecutive_5xx=3, max_ejection_percent=50))


def openai_client(picker):
    """Retries are the transport's: each goes elsewhere, within a budget."""
    http = openai.DefaultHttpxClient(transport=transport(picker, **OPTIONS))
    return openai.OpenAI(base_url="http://models/v1", api_key="none", http_client=http, max_retries=0)


def async_openai_client(picker):
    """The same for asyncio."""
    http = openai.DefaultAsyncHttpxClient(transport=async_transport(picker, **OPTIONS))
    return openai.AsyncOpenAI(base_url="http://models/v1", api_key="none", http_client=http, max_retries=0)


def anthropic_client(picker):
    """The same for Messages."""
    http = anthropic.DefaultHttpxClient(transport=transport(picker, **OPTIONS))
    return anthropic.Anthropic(base_url="http://models", api_key="none", http_client=http, max_retries=0)
