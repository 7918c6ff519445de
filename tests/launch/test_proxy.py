"""What Serve's proxy says by itself becomes 503 in OpenAI's shape; what an application says passes."""

import asyncio

import httpx
import pytest
from starlette.responses import JSONResponse, PlainTextResponse

from sea_ray.launch.proxy import CALLBACK, Retryable, middlewares


def asked(app, path="/v1/completions"):
    async def ask():
        async with httpx.AsyncClient(transport=httpx.ASGITransport(Retryable(app)), base_url="http://proxy") as client:
            return await client.post(path)

    return asyncio.run(ask())


async def lost(scope, receive, send):
    """As Serve's proxy when the replica of a request dies: it says nothing."""


@pytest.mark.parametrize(("app", "reason"), [
    (lost, "the replica that had this request was lost: try again"),
    (PlainTextResponse("Request timed out after 630 s.", 408), "no replica answered in time: try again"),
    (PlainTextResponse("Path '/' not found.", 404), "the service is not up yet: try again"),
    (PlainTextResponse("Request dropped due to backpressure", 503), "more requests wait for a replica than may: try again")])
def test_serve_s_own_errors_say_to_try_again(app, reason):
    response = asked(app)
    assert response.status_code == 503
    assert response.json() == {"error": {"message": reason, "type": "server_error", "param": None, "code": None}}
    assert response.headers["retry-after"] == "1"


@pytest.mark.parametrize("status", [200, 404, 429, 500, 503])
def test_an_application_s_answers_pass(status):
    response = asked(JSONResponse({"own": 1}, status))
    assert (response.status_code, response.json()) == (status, {"own": 1})


def test_the_proxy_s_own_pages_pass():
    assert asked(PlainTextResponse("draining", 503), "/-/healthz").text == "draining"


def test_the_variable_names_what_is_there():
    (path,) = CALLBACK.values()
    assert path == f"{middlewares.__module__}:{middlewares.__name__}"
