"""The loading code of Hub datasets on local folders in the same layout, which the library opens in place of an id."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from sea_ray.artifacts import fingerprint
from sea_ray.decoding import decode
from sea_ray.demo import World
from sea_ray.errors import ConfigError, DataError, MachineError
from sea_ray.sft.config import SftConfig, SftProvenance, StageConfig
from sea_ray.sft.reading import read_source
from sea_ray.sft.sources import DatasetSource, FileSource, PairSource
from sea_ray.sft.stages import build_stage_data, input_digests

AYA = [{"inputs": f"q{i} {code}", "targets": f"a{i}", "language_code": code} for i in range(3) for code in ("tha", "jav")]
AYA_FIELDS = {"prompt": "inputs", "response": "targets"}


def write(folder: Path, rows: list[dict[str, Any]], file: str = "data/train-00000-of-00001.parquet") -> str:
    (folder / file).parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), folder / file)
    return str(folder)


def aya(folder: Path, **options: Any) -> DatasetSource:
    defaults: dict[str, Any] = {"dataset": write(folder, AYA), "language": "th", "format": "prompt_response",
                                "fields": AYA_FIELDS, "where": {"language_code": "tha"}}
    return DatasetSource(**defaults | options)


def turns(source: DatasetSource | FileSource, root: Path) -> list[list[tuple[str, str]]]:
    return [[(said.role, said.content) for said in talk.messages] for talk in read_source(source, root)]


@pytest.mark.parametrize(("form", "fields", "row", "expected"), [
    ("alpaca", {"input": "context", "output": "response"}, {"instruction": "Sum up.", "context": "A text.", "response": "Text."},
     ["Sum up.\nA text.", "Text."]),
    ("alpaca", {}, {"instruction": "Hi", "input": None, "output": "Hello"}, ["Hi", "Hello"]),
    ("messages", {}, {"messages": [{"role": "user", "content": "U"}, {"role": "assistant", "content": "A"}]}, ["U", "A"]),
    ("sharegpt", {"conversations": "turns"}, {"turns": [{"from": "human", "value": "U"}, {"from": "gpt", "value": "A"}]},
     ["U", "A"]),
    ("gsm8k", {}, {"question": "6/2?", "answer": "<<6/2=3>>3\n#### 3"}, ["6/2?", "3\n#### 3"]),
    ("prompt_response", AYA_FIELDS, {"inputs": "q", "targets": "a"}, ["q", "a"]),
    ("answerability", {}, {"prompt": "Who is B?", "response": "y", "kind": "unanswerable", "entity": "B"}, ["Who is B?", "y"]),
])
def test_every_format_is_read_from_columns_whatever_their_names(tmp_path: Path, form: Any, fields: Mapping[str, str],
                                                                row: dict[str, Any], expected: list[str]) -> None:
    source = DatasetSource(dataset=write(tmp_path / "d", [row]), language="th", format=form, fields=fields)
    (talk,) = read_source(source, tmp_path)
    assert [said.content for said in talk.messages] == expected
    assert (talk.language, talk.kind) == ("th", "unanswerable" if form == "answerability" else "instruction")


def test_parallel_text_becomes_requests_in_both_directions(tmp_path: Path) -> None:
    rows = [{"SNT.URLID": "1", "translation": {"en": "Good morning.", "khm": "អរុណសួស្តី"}},
            {"SNT.URLID": "2", "translation": {"en": "", "khm": "ទទេ"}},
            {"SNT.URLID": "3", "translation": {"en": "Yes.", "khm": "បាទ"}}]
    source = DatasetSource(dataset=write(tmp_path / "alt", rows), language="km", format="parallel",
                           fields={"en": "translation.en", "km": "translation.khm"})
    there, back = read_source(source, tmp_path)
    assert "Good morning." in there.messages[0].content
    assert there.messages[1].content == "អរុណសួស្តី"
    assert (back.messages[1].content, back.language, back.kind) == ("Yes.", "km", "translate")


def test_where_counts_before_skip_and_maximum(tmp_path: Path) -> None:
    parts = [turns(aya(tmp_path / "aya", skip=skip, max_conversations=most), tmp_path) for skip, most in ((0, 1), (1, 0))]
    assert [[said[0][1] for said in part] for part in parts] == [["q0 tha"], ["q1 tha", "q2 tha"]]


def test_where_and_names_of_fields_suit_files_too(tmp_path: Path) -> None:
    (tmp_path / "f.jsonl").write_text('{"q": "1", "a": "2", "n": 1}\n\n{"q": "3", "a": "4", "n": 2}\n')
    source = FileSource(path="f.jsonl", language="th", format="prompt_response", fields={"prompt": "q", "response": "a"},
                        where={"n": 2})
    assert turns(source, tmp_path) == [[("user", "3"), ("assistant", "4")]]


def test_split_and_configuration_are_those_that_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "aya"
    write(folder, AYA)
    write(folder, AYA[:1], "other/validation-00000-of-00001.parquet")
    (folder / "README.md").write_text("---\nconfigs:\n- config_name: main\n  data_files: data/train-*\n- config_name: small\n"
                                      "  data_files:\n  - {split: validation, path: other/validation-*}\n---\n")
    options = {"dataset": str(folder), "language": "th", "format": "prompt_response", "fields": AYA_FIELDS}
    assert len(read_source(DatasetSource(**options, name="small", split="validation"), tmp_path)) == 1
    with pytest.raises(DataError, match=r"(?s)dataset .*aya: cannot be opened or read .*main.*small.*check sft.data"):
        read_source(DatasetSource(**options, name="smal", split="validation"), tmp_path)
    with pytest.raises(DataError, match=r"(?s)Bad split: test.*train"):
        read_source(DatasetSource(**options, name="main", split="test"), tmp_path)


@pytest.mark.parametrize(("options", "message"), [
    ({"where": {"language_code": "xxx"}}, r"no row has language_code=xxx; there are language_code=tha; language_code=jav"),
    ({"where": {"lang": "tha"}}, r"aya:1: where names lang; there are inputs, targets, language_code"),
    ({"fields": {}}, r"aya:1: a row of format prompt_response needs the field 'prompt'; there are inputs, targets"),
    ({"format": "parallel", "fields": {}}, r"aya:1: fields are inputs, targets, language_code; en and th are needed"),
    ({"skip": 3}, r"aya: no conversation is left after skip=3; lower skip"),
    ({"dataset": "/no/such/folder"}, r"dataset /no/such/folder: cannot be opened or read .*check sft.data"),
])
def test_what_is_not_there_is_said_with_what_is(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_source(aya(tmp_path / "aya", **options), tmp_path)


def test_without_a_network_the_operator_must_act(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(MachineError, match="dataset openai/gsm8k: the network or the disk failed"):
        read_source(DatasetSource(dataset="openai/gsm8k", name="main", language="en", format="gsm8k"), tmp_path)


def test_a_bad_row_is_refused_with_dataset_and_row_number(tmp_path: Path) -> None:
    rows = [{"prompt": "a", "response": "b"}, {"prompt": "a", "response": None}]
    source = DatasetSource(dataset=write(tmp_path / "d", rows), language="en", format="prompt_response")
    with pytest.raises(DataError, match=r"dataset .*/d:2: "):
        read_source(source, tmp_path)


@pytest.mark.parametrize(("options", "message"), [
    ({"fields": {"promt": "inputs"}}, "fields.promt: the format has no such field; did you mean prompt"),
    ({"format": "parallel", "fields": {"vi": "v"}}, "fields.vi: the format has no such field; valid: en, th"),
    ({"source": "english"}, "source: unknown language 'english'"), ({"skip": -1}, "skip: -1 is negative")])
def test_a_wrong_setting_is_refused(options: dict[str, Any], message: str) -> None:
    plain = {"dataset": "a/b", "language": "th", "format": "prompt_response", **options}
    with pytest.raises(ConfigError, match=message):
        decode(DatasetSource, plain)


def test_a_dataset_joins_the_stage_and_is_known_by_its_content_or_revision(world: World, tmp_path: Path) -> None:
    write(tmp_path / "aya", AYA)
    local, hub = aya(tmp_path / "aya", dataset="aya"), aya(tmp_path / "aya", dataset="a/b", revision="0123abc")
    broad, high_quality = (StageConfig(demo={"list": 1}, datasets=(source,)) for source in (local, hub))
    config = SftConfig(broad=broad, high_quality=high_quality, root=str(tmp_path))
    before = input_digests(config)
    assert [talk.kind for talk in build_stage_data(config, config.broad, world)["th"]] == ["list", *["instruction"] * 3]
    assert input_digests(config) == before, "reading changes nothing"
    assert list(before) == ["dataset/broad/0/data/train-00000-of-00001.parquet", "dataset/high_quality/0"]
    assert before["dataset/high_quality/0"] == "a/b@0123abc"
    (tmp_path / "aya").rename(tmp_path / "moved")
    moved = replace(config, broad=replace(broad, datasets=(replace(local, dataset="moved"),)))
    assert (fingerprint(moved), input_digests(moved)) == (fingerprint(config), before), "where it lies does not matter"
    write(tmp_path / "moved", AYA[:2])
    assert input_digests(moved) != before


def test_provenance_names_every_source_of_a_language_by_stage() -> None:
    pairs = PairSource(source="en", target="th", format="lines", paths=("en.txt", "th.txt"), licence="CC0", origin="example.org")
    sets = (DatasetSource(dataset="a/b", name="main", revision="0123abc", language="th", format="gsm8k", licence="MIT"),
            DatasetSource(dataset="a/b", language="vi", format="gsm8k"))
    file = FileSource(path="f.json", language="th", format="alpaca")
    config = SftConfig(broad=StageConfig(pairs=(pairs,), datasets=sets),
                       high_quality=StageConfig(demo={"fact": 1}, files=(file,)))
    assert config.provenance("th") == [
        SftProvenance(stage="broad", language="th", name="en.txt, th.txt", licence="CC0", origin="example.org"),
        SftProvenance(stage="broad", language="th", name="a/b", licence="MIT", origin="Hugging Face, main@0123abc"),
        SftProvenance(stage="high_quality", language="th", name="demo world", licence="that of sea_ray", origin="sea_ray.demo"),
        SftProvenance(stage="high_quality", language="th", name="f.json", licence="", origin="")]
    assert fingerprint(replace(sets[0], licence="")) == fingerprint(sets[0]), "a licence is no part of what the result is"
