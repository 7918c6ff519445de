"""The page at /, on which a person asks the models side by side, and the flag of what refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import resources

from anyio import CapacityLimiter, to_thread
from fastapi import FastAPI
from pydantic import StrictStr
from starlette.responses import Response

from sea_ray.languages import LANGUAGES
from sea_ray.serving.protocol import Body

_FILES = {"/": ("index.html", "text/html"), "/page/page.css": ("page.css", "text/css"),
          "/page/page.js": ("page.js", "text/javascript"), "/page/api.js": ("api.js", "text/javascript")}
"""Path -> file of the package, media type."""
_SETTINGS_PATH = "/page/settings.json"

PAGE_PATHS = frozenset({*_FILES, _SETTINGS_PATH})
"""What is read without a key: the page holds no data and asks with the key that a person types."""

POLICY = ("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; "
          "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'")
"""Only its own files run, it speaks to its own server alone, and text cannot become markup, whatever a model writes."""
_HEADERS = {"Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
            "Cache-Control": "no-cache"}


class RefusalRequest(Body):
    """POST /refusal."""

    text: StrictStr


def add_page(app: FastAPI, *, needs_key: bool, flags_refusals: bool) -> None:
    """Add the page and its files.

    Args:
        app: gets the routes.
        needs_key: whether the page has to ask for a key.
        flags_refusals: whether the application has /refusal.
    """
    files = {path: _page(_read(name), kind) for path, (name, kind) in _FILES.items()}
    files[_SETTINGS_PATH] = _page(_settings(needs_key, flags_refusals), "application/json")
    for path, response in files.items():
        app.add_api_route(path, response, methods=["GET"], include_in_schema=False)


def add_refusals(app: FastAPI, is_refusal: Callable[[str], bool]) -> None:
    """Add POST /refusal, which says of an answer whether it refuses.

    Args:
        app: gets the route.
        is_refusal: takes the answer; called in a thread, never twice at a time, since it may have to learn first.
    """
    one_at_a_time = CapacityLimiter(1)

    @app.post("/refusal")
    async def refusal(body: RefusalRequest) -> dict[str, bool]:
        return {"refusal": await to_thread.run_sync(is_refusal, body.text, limiter=one_at_a_time)}


def _page(content: str, kind: str) -> Callable[[], Response]:
    return lambda: Response(content, media_type=kind, headers=_HEADERS)


def _read(name: str) -> str:
    return (resources.files("sea_ray.serving") / "page" / name).read_text(encoding="utf-8")


def _settings(needs_key: bool, flags_refusals: bool) -> str:
    questions = json.loads(_read("questions.json"))
    languages = [{"code": one.code, "name": one.name, "native_name": one.native_name, "questions": questions.get(one.code, [])}
                 for one in LANGUAGES.values()]
    return json.dumps({"needs_key": needs_key, "flags_refusals": flags_refusals, "languages": languages}, ensure_ascii=False)
