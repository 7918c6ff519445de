"""The lexicon of one language: words with their stored forms, sentence patterns and phrases, read strictly from YAML.

lexicon/en.yaml says in its comments what each part means; every other file has exactly its keys.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import yaml

from sea_ray.demo.patterns import Forms, Pattern
from sea_ray.errors import DataError
from sea_ray.languages import language as known_language

MIN_PHRASES = 6
"""Fewest wordings of a list of phrases, and fewest items of the culture part."""
MIN_NAME_PARTS = 16
"""Fewest different starts, and ends, of invented names."""


@dataclass(frozen=True)
class Lexicon:
    """Everything the demo world can say in one language."""

    code: str
    words: Mapping[str, Mapping[str, Forms]]
    """Category -> entry -> forms; "language", "category" and "item" (of culture) are categories too."""
    patterns: Mapping[str, Pattern]
    """Dotted path in the file, such as "facts.home.statement", -> pattern."""
    refusals: tuple[Pattern, ...]
    """Answers to questions about what does not exist; slot {name}."""
    safety_refusals: tuple[str, ...]
    """Answers to harmful requests."""
    name_starts: Mapping[str, tuple[str, ...]]
    """"person" and "town" -> first parts of invented names."""
    name_ends: Mapping[str, tuple[Forms, ...]]
    """The last parts, in the forms that questions need."""

    def paths(self, prefix: str) -> list[str]:
        """Return the paths of the patterns directly or deeper below a prefix, in the order of the file."""
        return [path for path in self.patterns if path.startswith(prefix + ".")]

    def render(self, path: str, words: Mapping[str, Forms]) -> str:
        """Return a filled pattern as a sentence: in Latin scripts it begins with a capital."""
        return self.capitalise(self.patterns[path].fill(words))

    def capitalise(self, text: str) -> str:
        """Return the text with a capital first letter where the script has capitals."""
        return text[:1].upper() + text[1:] if known_language(self.code).script == "LATIN" else text

    def invented_names(self, kind: str) -> dict[str, Forms]:
        """Return all invented names of persons or towns in their forms, by base form."""
        names: dict[str, Forms] = {}
        for start in self.name_starts[kind]:
            for end in self.name_ends[kind]:
                names[start + end["base"]] = {form: start + text for form, text in end.items()}
        return names


@cache
def load_lexicon(code: str) -> Lexicon:
    """Return the packaged lexicon of a language, checked.

    Args:
        code: language code such as "th".

    Raises:
        DataError: the file is missing, is malformed, lacks keys of en.yaml or has others, or a pattern asks for a
            category or form that does not exist; the message names file and key.
    """
    source = resources.files("sea_ray.demo") / "lexicon" / f"{code}.yaml"
    file = f"sea_ray/demo/lexicon/{code}.yaml"
    if not source.is_file():
        raise DataError("the package has no lexicon of this language", file)
    return parse_lexicon(source.read_text(encoding="utf-8"), file, None if code == "en" else load_lexicon("en"))


def parse_lexicon(text: str, file: str, reference: Lexicon | None) -> Lexicon:
    """Return the checked lexicon of a YAML text.

    Args:
        text: content of the file.
        file: name for errors.
        reference: lexicon whose keys this one must have; None for the reference itself.

    Raises:
        DataError: see load_lexicon.
    """
    try:
        root = yaml.compose(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as error:
        raise DataError(f"not YAML: {error}", file) from error
    tree = _plain(root, file)
    try:
        lexicon = _build(tree, file)
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{error} is missing or has another shape than in en.yaml", file) from error
    _check_forms(lexicon, file)
    if reference is not None:
        _check_keys(lexicon, reference, file)
    return lexicon


def _plain(node: yaml.Node | None, file: str) -> Any:
    """Return a YAML node as dict, list and text; every scalar is text, so that a word "no" stays a word."""
    if isinstance(node, yaml.MappingNode):
        tree: dict[str, Any] = {}
        for key, value in node.value:
            if key.value in tree:
                raise DataError(f"key {key.value!r} stands twice", file, key.start_mark.line + 1)
            tree[key.value] = _plain(value, file)
        return tree
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item, file) for item in node.value]
    if not isinstance(node, yaml.ScalarNode) or not node.value.strip():
        raise DataError("empty value; a text is needed", file, None if node is None else node.start_mark.line + 1)
    return unicodedata.normalize("NFC", node.value)


def _forms(entry: str | dict[str, str]) -> Forms:
    return {"base": entry} if isinstance(entry, str) else {"base": entry["base"], **entry}


def _build(tree: dict[str, Any], file: str) -> Lexicon:
    safety, invented = tree["safety"], tree["invented"]
    words = {
        **tree["words"],
        "language": tree["languages"],
        "category": tree["categories"],
        "item": safety["culture"]["items"],
    }
    patterns = {}
    below_safety = {"general": safety["general"], "culture": safety["culture"]["pairs"]}
    parts = {"sentences": tree["sentences"], "facts": tree["facts"], "prompts": tree["prompts"], "safety": below_safety}
    for path, text in _leaves(parts, ""):
        patterns[path] = _pattern(text, path, file)
    return Lexicon(
        code=tree["code"],
        words={category: {key: _forms(entry) for key, entry in part.items()} for category, part in words.items()},
        patterns=patterns,
        refusals=tuple(_pattern(text, "refusals", file) for text in tree["refusals"]),
        safety_refusals=tuple(safety["refusals"]),
        name_starts={kind: tuple(part["starts"]) for kind, part in invented.items()},
        name_ends={kind: tuple(map(_forms, part["ends"])) for kind, part in invented.items()},
    )


def _leaves(tree: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _pattern(text: str, path: str, file: str) -> Pattern:
    try:
        return Pattern.parse(text)
    except ValueError as error:
        raise DataError(f"{path}: {error}", file) from error


def _check_forms(lexicon: Lexicon, file: str) -> None:
    """Every slot's category exists and every word that may fill it has the form; invented names count as words."""
    named = [(f"refusals[{i}]", pattern) for i, pattern in enumerate(lexicon.refusals)]
    for path, pattern in [*lexicon.patterns.items(), *named]:
        for slot in pattern.slots:
            for word, forms in _candidates(lexicon, path, slot.category, file):
                if slot.form not in forms:
                    rule = f"{path}: {{{slot.name}.{slot.form}}} needs the form {slot.form!r}"
                    raise DataError(f"{rule}, which {word} lacks (it has {', '.join(forms)})", file)
    for category, entries in lexicon.words.items():
        seen: dict[str, str] = {}
        for key, forms in entries.items():
            if (other := seen.setdefault(forms["base"], key)) != key:
                raise DataError(f"words.{category}: {other} and {key} are both {forms['base']!r}", file)


def _candidates(lexicon: Lexicon, path: str, category: str, file: str) -> list[tuple[str, Forms]]:
    if category == "text":
        return [("text", {"base": ""})]
    invented = lexicon.name_ends if category == "name" else {}
    if path.startswith("facts.") and path.endswith(".question") and category in lexicon.name_ends:
        invented = {category: lexicon.name_ends[category]}
    found = [(f"invented.{kind}.ends {forms['base']!r}", forms) for kind, ends in invented.items() for forms in ends]
    if category != "name":
        if category not in lexicon.words:
            raise DataError(f"{path}: there is no category {category!r}", file)
        found += [(f"words.{category}.{key}", forms) for key, forms in lexicon.words[category].items()]
    return found


def _check_keys(lexicon: Lexicon, reference: Lexicon, file: str) -> None:
    """The keys are those of the reference, sentences and facts have the same slots, the lists are long enough."""
    own, needed = _keys(lexicon), _keys(reference)
    if own != needed:
        missing, extra = sorted(needed - own), sorted(own - needed)
        raise DataError(f"keys differ from en.yaml: missing {missing[:8]}, unknown {extra[:8]}", file)
    for path, pattern in reference.patterns.items():
        mine = lexicon.patterns[path].categories
        if not path.startswith("safety.") and mine != pattern.categories:
            raise DataError(f"{path}: slots {list(mine)}, en.yaml has {list(pattern.categories)}", file)
    lengths: dict[str, tuple[int, int]] = {
        "refusals": (len(set(lexicon.refusals)), MIN_PHRASES),
        "safety.refusals": (len(set(lexicon.safety_refusals)), MIN_PHRASES),
        "safety.culture.items": (len(lexicon.words["item"]), MIN_PHRASES),
    }
    for kind in lexicon.name_starts:
        lengths[f"invented.{kind}.starts"] = (len(set(lexicon.name_starts[kind])), MIN_NAME_PARTS)
        ends = {forms["base"] for forms in lexicon.name_ends[kind]}
        lengths[f"invented.{kind}.ends"] = (len(ends), MIN_NAME_PARTS)
    for path, (found, least) in lengths.items():
        if found < least:
            raise DataError(f"{path}: {found} different entries, at least {least} are needed", file)


def _keys(lexicon: Lexicon) -> set[str]:
    words = {f"{category}.{key}" for category, part in lexicon.words.items() if category != "item" for key in part}
    return {f"words.{name}" for name in words} | set(lexicon.patterns) | {f"invented.{k}" for k in lexicon.name_starts}
