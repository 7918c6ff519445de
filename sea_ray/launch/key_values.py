"""`key=value` as commands take it that compose no experiment."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import yaml

from sea_ray.errors import ConfigError


def key_values(texts: Sequence[str], example: str, as_text: Collection[str] = ()) -> dict[str, Any]:
    """Return key -> value, read as YAML; of a key that is said twice the last.

    Args:
        texts: each key=value.
        example: one that is right.
        as_text: keys whose values are text, whatever YAML would take them for: a run may be called 007.

    Raises:
        ConfigError: one is not key=value, or its value is no YAML.
    """
    found = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            raise ConfigError("", f"{text!r} is not key=value; write for example {example}")
        try:
            found[key] = value if key in as_text else yaml.safe_load(value)
        except (yaml.YAMLError, ValueError) as error:  # a date such as 2026-13-01 is the latter
            raise ConfigError(key, f"{value!r} can't be read as YAML ({getattr(error, 'problem', None) or error}); "
                                   f"write for example {example}") from error
    return found
