"""Ready means right: what an application answers, compared with the model itself, before anybody else asks it.

The questions go through the application's own route, several in one request, so that batching, the reuse of known beginnings,
reading in parts and language packs are in the answer. The reference is plain forward passes of the same transformers model, one
text at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import httpx
import torch
from starlette.types import ASGIApp
from transformers import PreTrainedModel

from sea_ray.errors import MachineError
from sea_ray.neurons.pack import LanguagePack
from sea_ray.serving.app import build_app
from sea_ray.serving.config import ServingConfig
from sea_ray.serving.engine import end_ids
from sea_ray.serving.exchange import Engine
from sea_ray.serving.models import Models, Served

SENTENCES = {
    "en": "The market opens at six, and the boats come back before noon.",
    "zh": "市场六点开门，船在中午之前回来。",
    "id": "Pasar buka pukul enam, dan perahu kembali sebelum tengah hari.",
    "vi": "Chợ mở cửa lúc sáu giờ, và thuyền về trước buổi trưa.",
    "th": "ตลาดเปิดหกโมงเช้า และเรือกลับมาก่อนเที่ยง",
    "tl": "Bumubukas ang palengke nang alas-sais, at bumabalik ang mga bangka bago magtanghali.",
    "ms": "Pasar dibuka pada pukul enam, dan bot kembali sebelum tengah hari.",
    "my": "ဈေးက ခြောက်နာရီမှာ ဖွင့်ပြီး လှေတွေက မွန်းမတည့်ခင် ပြန်လာတယ်။",
    "km": "ផ្សារបើកម៉ោងប្រាំមួយ ហើយទូកត្រឡប់មកវិញមុនថ្ងៃត្រង់។",
    "lo": "ຕະຫຼາດເປີດຫົກໂມງ ແລະ ເຮືອກັບມາກ່ອນທ່ຽງ.",
    "ta": "சந்தை ஆறு மணிக்குத் திறக்கிறது, படகுகள் நண்பகலுக்கு முன் திரும்பும்.",
    "jv": "Pasar mbukak jam enem, lan prau bali sadurunge awan.",
}
"""One text in each of the twelve languages, by its code."""

TOLERANCE = {torch.float32: 1e-3, torch.float16: 0.1, torch.bfloat16: 1.0}
"""Allowed difference of a text's log-likelihood by the type of the weights, up to `TOLERANCE_TOKENS`; in proportion beyond.

In float32 on a CPU the demo's models are 1e-5 apart on the sentences, 9e-5 on 2,176 tokens under a pack.
"""
TOLERANCE_TOKENS = 128
NEXT_TOKENS = 8
"""Likeliest tokens that each text is continued with."""
PROBE_LIMIT_S = 3600.0
"""Longest time for one request of the probe."""


@dataclass(frozen=True, kw_only=True)
class Text:
    """A text of the probe in a model's tokens."""

    title: str
    """Language code, or what else it is."""
    ids: tuple[int, ...]
    """Tokens, at least two, with room for `NEXT_TOKENS` more in the context."""


def probe_texts(engine: Engine) -> list[Text]:
    """Return the twelve sentences, three texts with one beginning, and one so long that it is read in parts if the context
    allows.

    Args:
        engine: with tokenizer, context and the length of a part.
    """
    beginning, everything = SENTENCES["id"] + SENTENCES["ms"], " ".join(SENTENCES.values())
    texts = SENTENCES | {f"id, ms and {code}": beginning + SENTENCES[code] for code in ("jv", "th", "zh")}
    room = engine.max_context - NEXT_TOKENS
    encoded = {title: engine.tokenizer(text, add_special_tokens=False)["input_ids"] for title, text in texts.items()}
    joined = engine.tokenizer(everything, add_special_tokens=False)["input_ids"]
    encoded["all joined"] = joined * (1 + (engine.prefill_tokens + TOLERANCE_TOKENS) // len(joined))
    longest = engine.prefill_tokens + TOLERANCE_TOKENS
    return [Text(title=title, ids=tuple(ids[:min(room, longest)])) for title, ids in encoded.items()]


def check_answers(models: Models, limits: ServingConfig) -> None:
    """Compare every checkpoint, and of each the first of its packs, with the model itself.

    Args:
        models: nobody else asks them yet. A pack is laid on the weights for its reference and taken off again, bit for bit.
        limits: as they are served with; the probe's own lengths and times are not among them.

    Raises:
        MachineError: an answer differs: which text, both figures and the remedy.
    """
    references = [reference for served in models.served for reference in _references(served)]
    own = replace(limits, max_body_bytes=1 << 30, max_new_tokens=NEXT_TOKENS, request_limit_s=PROBE_LIMIT_S)
    app = build_app(models, (), own)  # of its own: it has no key, and nobody reaches it
    for reference in references:
        asyncio.run(_compare(app, reference))


@dataclass(frozen=True, kw_only=True)
class _Expected:
    """What a model itself says of a text."""

    loglikelihood: float
    """Of its tokens after the first."""
    next_ids: tuple[int, ...]
    """Likeliest tokens after it, up to one that ends an answer."""
    next_logprobs: tuple[float, ...]
    """Theirs."""
    num_clear: int
    """Of these, those before the first that another token equals within the tolerance."""


@dataclass(frozen=True, kw_only=True)
class _Reference:
    """What a model itself says of all texts."""

    model: str
    """As the application names it."""
    tolerance: float
    """Of a log-likelihood of `TOLERANCE_TOKENS`."""
    texts: list[Text]
    """One for each of `expected`."""
    expected: list[_Expected]
    """In the order of the texts."""


def _references(served: Served) -> Iterator[_Reference]:
    texts = probe_texts(served.engine)
    for language in (None, *sorted(served.packs)[:1]):
        name = served.name if language is None else f"{served.name}:{language}"
        with served.engine.reference() as model, _laid(served, model, language), torch.inference_mode():
            ends, dtype = end_ids(model.generation_config, served.engine.tokenizer), model.dtype
            expected = [_expected(model, ends, text.ids) for text in texts]
        if not all(math.isfinite(each.loglikelihood) for each in expected):
            raise MachineError(f"{name!r} gives no number for a probe text: its weights are broken or too large for its type; it "
                               "is not served: fetch or train the checkpoint anew")
        yield _Reference(model=name, texts=texts, tolerance=TOLERANCE[dtype], expected=expected)


@contextlib.contextmanager
def _laid(served: Served, model: PreTrainedModel, language: str | None) -> Iterator[None]:
    """Lay a pack on a checkpoint's weights; None: none."""
    if language is None:
        yield
        return
    pack = LanguagePack.load(served.packs[language])
    handle = pack.graft(model) if served.grafts else pack.apply(model)
    try:
        yield
    finally:
        handle.remove()


def _expected(model: PreTrainedModel, ends: frozenset[int], ids: Sequence[int]) -> _Expected:
    """Return what the model says by plain passes: one over the text, one for each token after it."""
    tolerance = TOLERANCE[model.dtype]
    output = model(input_ids=torch.tensor([ids], device=model.device), use_cache=True)
    logits_SV = output.logits[0].float()
    own_S = logits_SV[:-1].gather(1, torch.tensor(ids[1:], device=model.device)[:, None])[:, 0] - logits_SV[:-1].logsumexp(-1)
    next_ids, next_logprobs, num_clear, is_clear = list[int](), list[float](), 0, True
    for _ in range(NEXT_TOKENS):
        logits_V = output.logits[0, -1].float()
        (best, second), (token, _) = (part.tolist() for part in logits_V.topk(2))
        next_ids.append(token)
        next_logprobs.append(best - float(logits_V.logsumexp(-1)))
        is_clear = is_clear and best - second > tolerance
        num_clear += is_clear
        if token in ends or len(next_ids) == NEXT_TOKENS:
            break
        output = model(input_ids=torch.tensor([[token]], device=model.device), past_key_values=output.past_key_values,
                       use_cache=True)
    return _Expected(loglikelihood=float(own_S.double().sum()), next_ids=tuple(next_ids), next_logprobs=tuple(next_logprobs),
                     num_clear=num_clear)


async def _compare(app: ASGIApp, reference: _Reference) -> None:
    """Ask an application and compare.

    The texts are scored twice, the second time with beginnings that are known, and continued together.
    """
    prompts = [list(text.ids) for text in reference.texts]
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://probe") as client:
        async def ask(**asked: Any) -> list[dict[str, Any]]:
            body = {"model": reference.model, "prompt": prompts, "temperature": 0, **asked}
            response = await client.post("/v1/completions", json=body, timeout=None)
            if response.status_code != 200:
                raise MachineError(f"{reference.model!r} answers the probe with {response.status_code}: {response.text}; "
                                   "it is not served")
            return response.json()["choices"]

        rounds = [await ask(echo=True, logprobs=1, max_tokens=number) for number in (0, 1)]
        continued = await ask(logprobs=0, max_tokens=NEXT_TOKENS, return_token_ids=True)
    for number, text in enumerate(reference.texts):
        expected = reference.expected[number]
        for choices in rounds:
            logprobs = choices[number]["logprobs"]["token_logprobs"][1:len(text.ids)]
            _agree(reference, text, "log-likelihood", expected.loglikelihood, sum(logprobs))
        clear, found = expected.num_clear, continued[number]
        if (ids := found["token_ids"][:clear]) != list(expected.next_ids[:clear]):
            raise _wrong(reference, text, "likeliest next tokens", list(expected.next_ids[:clear]), ids)
        _agree(reference, text, "log-likelihood of the next tokens", sum(expected.next_logprobs[:clear]),
               sum(found["logprobs"]["token_logprobs"][:clear]))


def _agree(reference: _Reference, text: Text, what: str, expected: float, found: float) -> None:
    allowed = reference.tolerance * max(1.0, len(text.ids) / TOLERANCE_TOKENS)
    if not abs(found - expected) <= allowed:  # what is no number does not agree
        raise _wrong(reference, text, what, f"{expected:.6f}", f"{found:.6f}", f" ({allowed:g} apart at most)")


def _wrong(reference: _Reference, text: Text, what: str, expected: object, found: object, rule: str = "") -> MachineError:
    return MachineError(
        f"{reference.model!r} answers wrongly: {what} of the probe text {text.title!r} ({len(text.ids)} tokens) is {found} by "
        f"POST /v1/completions and {expected} by the model alone{rule}; it is not served: install the versions of "
        "requirements.lock, and report it if that does not help")
