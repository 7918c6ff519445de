"""`key=value` of commands without an experiment: read, or refused with what was written."""

import pytest

from sea_ray.errors import ConfigError
from sea_ray.launch.key_values import key_values


def test_values_are_yaml_and_the_last_one_counts_but_names_stay_as_they_are():
    read = key_values(["run=007", "cluster.num_cpus=1", "cluster.num_cpus=2", "packs=null", "url=http://h/?a=b"], "a=b", ["run"])
    assert read == {"run": "007", "cluster.num_cpus": 2, "packs": None, "url": "http://h/?a=b"}


@pytest.mark.parametrize(("text", "says"), [
    ("demo", "'demo' is not key=value; write for example run=demo"),
    ("serving.port=[", r"serving.port: '\[' can't be read as YAML \(.+\); write for example run=demo"),
    ("out=2026-13-01", r"out: '2026-13-01' can't be read as YAML \(month must be in 1\.\.12"),
    ("serving.port=\x07", r"serving.port: '\\x07' can't be read as YAML"),
])  # fmt: skip
def test_what_is_no_setting_is_quoted(text, says):
    with pytest.raises(ConfigError, match=says):
        key_values([text], "run=demo")
