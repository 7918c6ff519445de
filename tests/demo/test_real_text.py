"""Is the lexicon what people write? Asked of ../shared/data, which lies beside the project in some places."""

import json
import re
import unicodedata
from pathlib import Path

import pytest
from py3langid.langid import MODEL_FILE, LanguageIdentifier

from sea_ray.demo import World, load_lexicon
from sea_ray.languages import LANGUAGES

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"
UDHR = {
    "en": "eng", "zh": "cmn_hans", "id": "ind", "vi": "vie", "th": "tha", "tl": "tgl",
    "ms": "mly_latn", "my": "mya", "km": "khm", "lo": "lao", "ta": "tam", "jv": "jav",
}  # fmt: skip
MORE = {
    "en": ("parallel/nusax/*.csv", "sft/gsm8k*", "sft/alpaca_en*"),
    "zh": ("sft/alpaca_zh*",),
    "id": ("parallel/nusax/*.csv",),
    "jv": ("parallel/nusax/*.csv", "text/jv.txt"),
    "vi": ("sft/lima_vi*", "eval/m3exam/viet*"),
    "th": ("eval/m3exam/thai*",),
}
ALIKE = ({"id", "ms", "jv"},)

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"no real text beside the project ({DATA.name} of ../shared)")


def normal(text: str) -> str:
    return unicodedata.normalize("NFC", text).lower().replace("\u200b", "")


def real_text(code: str) -> str:
    globs = [
        f"parallel/ntrex/{code}.txt",
        f"parallel/tico19/en-{code}.jsonl",
        f"eval/sib200_dev/{LANGUAGES[code].flores}.tsv",
        f"eval/*/*_{code}_*",
        f"eval/*/*_{code}.tsv",
        f"eval/*/{code}.jsonl",
        f"text/udhr/udhr_{UDHR[code]}.xml",
        *MORE.get(code, ()),
    ]
    texts = [file.read_text(encoding="utf-8") for pattern in globs for file in DATA.glob(pattern)]
    unescaped = [re.sub(r"\\u([0-9a-f]{4})", lambda match: chr(int(match[1], 16)), text) for text in texts]
    return normal("\n".join(unescaped))


@pytest.mark.parametrize("code", LANGUAGES)
def test_four_content_words_in_five_occur_in_real_text(code: str) -> None:
    """An entry counts when all words of one of its forms occur: "reads a book" is three words, not one."""
    text = real_text(code)
    entries = {
        f"{category}.{key}": [normal(form).split() for form in forms.values()]
        for category, part in load_lexicon(code).words.items()
        if category not in ("person", "town", "language", "category", "item")
        for key, forms in part.items()
    }
    missing = [key for key, forms in entries.items() if not any(all(word in text for word in form) for form in forms)]
    share = 1 - len(missing) / len(entries)
    assert share >= 0.80, (share, " ".join(missing))


@pytest.fixture(scope="module")
def identifier() -> LanguageIdentifier:
    found = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    found.set_languages(list(LANGUAGES))
    return found


@pytest.mark.parametrize("code", LANGUAGES)
def test_language_identification_agrees_on_nine_sentences_in_ten(code: str, identifier: LanguageIdentifier) -> None:
    accepted = next((group for group in ALIKE if code in group), {code})
    world = World(0, (code,))
    sentences = [sentence for document in world.document_sentences(code, "train", 60) for sentence in document]
    wrong = [sentence for sentence in sentences if identifier.classify(sentence)[0] not in accepted]
    assert len(wrong) <= 0.10 * len(sentences), (
        1 - len(wrong) / len(sentences),
        json.dumps(wrong[:10], ensure_ascii=False),
    )
