"""The decoder: plain containers become frozen dataclasses, and a typo never passes silently."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from sea_ray.decoding import decode
from sea_ray.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Source:
    glob: str
    field: str = "text"


@dataclass(frozen=True, kw_only=True)
class Training:
    steps: int
    rate: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.95)
    schedule: Literal["cosine", "linear"] = "cosine"
    level: Literal[0, 1, 2] = 0

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ConfigError("steps", f"{self.steps} is below 1")
        if self.rate <= 0:
            raise ValueError("rate must be above 0")


@dataclass(frozen=True, kw_only=True)
class Top:
    name: str
    training: Training
    languages: tuple[str, ...] = ("en",)
    limit: float | None = None
    resume: bool = False
    paths: Mapping[str, tuple[Source, ...]] = field(default_factory=dict)
    mixes: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    grid: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    backup: Training | None = None


def top(**changes):
    return decode(Top, {"name": "x", "training": {"steps": 3}, **changes})


def refusal(**changes):
    with pytest.raises(ConfigError) as caught:
        top(**changes)
    return caught.value


def test_nested_values_arrive_in_their_types():
    found = top(
        languages=["th", "vi"], limit=2, resume=True, mixes={"even": {"th": 1, "vi": 0.5}},
        paths={"th": [{"glob": "*.txt"}, {"glob": "*.jsonl", "field": "body"}]},
        grid={"a.b": [1, "two", None, [3]]}, training={"steps": 5, "betas": [0, 1], "schedule": "linear", "level": 2},
        backup={"steps": 1})
    assert found == Top(
        name="x", languages=("th", "vi"), limit=2.0, resume=True, mixes={"even": {"th": 1.0, "vi": 0.5}},
        paths={"th": (Source(glob="*.txt"), Source(glob="*.jsonl", field="body"))},
        grid={"a.b": (1, "two", None, [3])}, backup=Training(steps=1),
        training=Training(steps=5, betas=(0.0, 1.0), schedule="linear", level=2))
    assert isinstance(found.limit, float)
    assert isinstance(found.mixes["even"]["th"], float)
    assert isinstance(found.training.betas[0], float)


def test_what_is_left_out_keeps_its_default():
    assert top() == Top(name="x", training=Training(steps=3))


@pytest.mark.parametrize(("changes", "path", "suggestion"), [
    ({"langages": ["vi"]}, "langages", "did you mean languages"),
    ({"training": {"steps": 3, "raet": 1}}, "training.raet", "did you mean rate"),
    ({"paths": {"th": [{"glob": "a", "feild": "b"}]}}, "paths.th[0].feild", "did you mean field?"),
    ({"qqq": 1}, "qqq", "valid: backup, grid, languages"),
    ({"training": {"steps": 3, "schedule": "cosin"}}, "training.schedule", "did you mean cosine?"),
])
def test_an_unknown_name_is_refused_with_its_dotted_path_and_the_nearest_valid_ones(changes, path, suggestion):
    error = refusal(**changes)
    assert error.path == path
    assert suggestion in str(error)
    assert str(error).startswith(f"{path}: ")


@pytest.mark.parametrize(("changes", "path", "found", "needed"), [
    ({"name": 3}, "name", "3 is int", "str is needed"),
    ({"name": None}, "name", "None is NoneType", "str is needed"),
    ({"resume": 1}, "resume", "1 is int", "bool is needed"),
    ({"training": {"steps": True}}, "training.steps", "True is bool", "int is needed"),
    ({"training": {"steps": 2.0}}, "training.steps", "2.0 is float", "int is needed"),
    ({"training": {"steps": "3"}}, "training.steps", "'3' is str", "int is needed"),
    ({"training": {"steps": 3, "rate": "high"}}, "training.rate", "'high' is str", "float is needed"),
    ({"training": {"steps": 3, "rate": False}}, "training.rate", "False is bool", "float is needed"),
    ({"training": 7}, "training", "7 is int", "a group of settings (Training) is needed"),
    ({"training": {"steps": 3, "betas": [0.9]}}, "training.betas", "has 1 items", "2 are needed"),
    ({"training": {"steps": 3, "level": 3}}, "training.level", "3 is not one of the choices", "valid: 0, 1, 2"),
    ({"training": {"steps": 3, "level": True}}, "training.level", "True is not one of the choices", "0, 1, 2"),
    ({"languages": "vi"}, "languages", "'vi' is str", "a list is needed"),
    ({"languages": ["vi", 3]}, "languages[1]", "3 is int", "str is needed"),
    ({"limit": "none"}, "limit", "'none' is str", "float is needed"),
    ({"mixes": ["a"]}, "mixes", "['a'] is list", "a mapping is needed"),
    ({"mixes": {"even": {"th": "x"}}}, "mixes.even.th", "'x' is str", "float is needed"),
    ({"backup": {"steps": "x"}}, "backup.steps", "'x' is str", "int is needed"),
])
def test_a_wrong_type_is_refused_with_what_was_found_and_what_is_needed(changes, path, found, needed):
    error = refusal(**changes)
    assert error.path == path
    assert found in str(error)
    assert needed in str(error)


def test_a_missing_value_names_its_path():
    with pytest.raises(ConfigError, match=r"^training\.steps: missing; it has no default"):
        decode(Top, {"name": "x", "training": {}})
    with pytest.raises(ConfigError, match=r"^name: missing"):
        decode(Top, {"training": {"steps": 1}})


def test_a_value_out_of_range_gets_the_whole_path():
    assert refusal(training={"steps": 0}).path == "training.steps"
    assert refusal(backup={"steps": 0}).path == "backup.steps"
    assert str(refusal(training={"steps": 1, "rate": -1.0})) == "training: rate must be above 0"


def test_a_name_that_begins_like_its_group_still_gets_the_whole_path():
    @dataclass(frozen=True, kw_only=True)
    class Data:
        data_seed: int = 0

        def __post_init__(self) -> None:
            if self.data_seed < 0:
                raise ConfigError("data_seed", f"{self.data_seed} is negative")

    @dataclass(frozen=True, kw_only=True)
    class Whole:
        data: Data

    with pytest.raises(ConfigError) as caught:
        decode(Whole, {"data": {"data_seed": -1}})
    assert caught.value.path == "data.data_seed"


def test_the_path_may_start_anywhere():
    with pytest.raises(ConfigError, match=r"^training\.steps: 'x' is str"):
        decode(Training, {"steps": "x"}, "training")
