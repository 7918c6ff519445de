"""What the application says of itself is true: requests made from its OpenAPI description get what that promises."""

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from sea_ray.serving.app import build_app
from sea_ray.serving.config import ServingConfig
from sea_ray.serving.described import ChatCompletion, Completion
from sea_ray.serving.models import Models

schema = schemathesis.openapi.from_dict(build_app(Models([]), [], ServingConfig()).openapi())
GENERATES = ("/v1/completions", "/v1/chat/completions")


@schema.hook
def map_body(context, body):
    """Name a model that is there, and ask for short answers: else nearly every request would be a refusal."""
    if isinstance(body, dict) and isinstance(body.get("model"), str):
        body |= {"model": "small"}
        body |= {name: value % 8 for name, value in body.items() if name.endswith("_tokens") and type(value) is int and value > 0}
    return body


@schema.parametrize()
@settings(max_examples=40, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
def test_every_response_is_as_described(case, door):
    # What fields mean together is no part of a schema, so what fits it may be refused; and HTTP ignores unknown parameters.
    excluded = [positive_data_acceptance, *([] if case.method == "POST" else [negative_data_rejection])]
    response = case.call(base_url=door.url, headers=door.headers)
    case.validate_response(response, excluded_checks=excluded)


@pytest.mark.parametrize("more", [
    {}, {"n": 2}, {"logprobs": 0}, {"logprobs": 3, "echo": True}, {"echo": True}, {"prompt_logprobs": 2},
    {"return_token_ids": True},
    {"max_tokens": 0, "logprobs": 1, "echo": True}, {"prompt": ["a", "b"], "n": 2, "logprobs": 1, "prompt_logprobs": 0}])
def test_a_text_completion_has_the_described_fields_and_no_others(door, more):
    body = {"model": "small", "prompt": "Budi ใน", "max_tokens": 4, **more}
    Completion.model_validate_json(httpx.post(door.url + GENERATES[0], json=body, headers=door.headers).content, strict=True)


@pytest.mark.parametrize("more", [
    {}, {"n": 2}, {"logprobs": True}, {"logprobs": True, "top_logprobs": 3}, {"prompt_logprobs": 2, "return_token_ids": True}])
def test_a_chat_completion_has_the_described_fields_and_no_others(door, more):
    body = {"model": "small", "messages": [{"role": "user", "content": "Budi?"}], "max_tokens": 4, **more}
    ChatCompletion.model_validate_json(httpx.post(door.url + GENERATES[1], json=body, headers=door.headers).content, strict=True)


def test_the_description_needs_the_key_and_names_every_refusal(door):
    assert httpx.get(door.url + "/openapi.json").status_code == 401
    described = httpx.get(door.url + "/openapi.json", headers=door.headers).json()
    for path, operations in described["paths"].items():
        for operation in operations.values():
            expected = {"200", "401", "413", "500"} | ({"400", "404", "429", "503", "504"} if path in GENERATES else set())
            assert expected - ({"401"} if path == "/health" else set()) <= set(operation["responses"])
            assert "422" not in operation["responses"]
            for status, response in operation["responses"].items():
                if status != "200":
                    assert response["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/ErrorBody"}
