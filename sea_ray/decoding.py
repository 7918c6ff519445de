"""A strict decoder from plain containers (YAML, JSON) into frozen dataclasses: a typo never passes silently."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, Union

from sea_ray.errors import ConfigError, nearest

T = TypeVar("T")


def decode(kind: type[T], value: object, path: str = "") -> T:
    """Return `value` as an instance of a dataclass.

    Args:
        kind: dataclass type; fields may be scalars, Literals, unions with None, tuples, mappings and dataclasses.
        value: mapping of plain containers.
        path: dotted path of `value`, for errors.

    Raises:
        ConfigError: unknown key (with the nearest valid ones), missing key, wrong type or a value out of its range,
            each with its dotted path.
    """
    return _decode(kind, value, path)


def _decode(kind: Any, value: object, path: str) -> Any:
    origin = typing.get_origin(kind)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _dataclass(kind, value, path)
    if origin in (Union, types.UnionType):
        return _union(typing.get_args(kind), value, path)
    if origin is Literal:
        choices = typing.get_args(kind)
        if value not in choices or isinstance(value, bool) != any(isinstance(c, bool) for c in choices if c == value):
            raise ConfigError(path, f"{value!r} is not one of the choices{nearest(str(value), map(str, choices))}")
        return value
    if origin is tuple:
        if isinstance(value, str) or not isinstance(value, list | tuple):
            raise ConfigError(path, f"{value!r} is {type(value).__name__}, a list is needed: [a, b]")
        (item, *rest) = typing.get_args(kind)
        if rest != [...] and len(value) != 1 + len(rest):
            raise ConfigError(path, f"{value!r} has {len(value)} items, {1 + len(rest)} are needed")
        kinds = [item] * len(value) if rest == [...] else [item, *rest]
        return tuple(_decode(k, part, f"{path}[{i}]") for i, (k, part) in enumerate(zip(kinds, value, strict=True)))
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            raise ConfigError(path, f"{value!r} is {type(value).__name__}, a mapping is needed: {{key: value}}")
        _, item = typing.get_args(kind)
        return {str(key): _decode(item, part, f"{path}.{key}".lstrip(".")) for key, part in value.items()}
    return _scalar(kind, value, path)


def _scalar(kind: Any, value: object, path: str) -> Any:
    if kind is Any or kind is object:
        return value
    if kind is type(None):
        if value is None:
            return None
    elif kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    elif isinstance(value, kind) and not (isinstance(value, bool) and kind is not bool):
        return value
    raise ConfigError(path, f"{value!r} is {type(value).__name__}, {getattr(kind, '__name__', kind)} is needed")


def _union(kinds: tuple[Any, ...], value: object, path: str) -> Any:
    if value is None and type(None) in kinds:
        return None
    errors = []
    for kind in kinds:
        if kind is not type(None):
            try:
                return _decode(kind, value, path)
            except ConfigError as error:
                errors.append(error)
    raise errors[0]


def _dataclass(kind: Any, value: object, path: str) -> Any:
    if not isinstance(value, Mapping):
        raise ConfigError(path, f"{value!r} is {type(value).__name__}, a group of settings ({kind.__name__}) is needed")
    hints = typing.get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind) if field.init}
    for key in value:
        if key not in fields:
            dotted = f"{path}.{key}" if path else str(key)
            raise ConfigError(dotted, f"unknown key{nearest(str(key), fields)}")
    for name, field in fields.items():
        if name not in value and field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ConfigError(f"{path}.{name}" if path else name, "missing; it has no default")
    decoded = {key: _decode(hints[key], part, f"{path}.{key}" if path else key) for key, part in value.items()}
    try:
        return kind(**decoded)
    except ConfigError as error:
        raise ConfigError(".".join(filter(None, (path, error.path))), error.message) from error
    except ValueError as error:
        raise ConfigError(path, str(error)) from error
