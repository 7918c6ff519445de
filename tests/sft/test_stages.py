import json
from collections import Counter
from pathlib import Path

import pytest

from sea_ray.decoding import decode
from sea_ray.demo import KINDS, World
from sea_ray.errors import ConfigError, DataError
from sea_ray.sft.config import SftConfig, StageConfig
from sea_ray.sft.sources import FileSource, PairSource
from sea_ray.sft.stages import REFUSAL_KINDS, all_conversations, build_stage_data, input_digests


def kinds(data, language: str) -> Counter[str]:
    return Counter(talk.kind for talk in data[language])


def test_the_stages_together_hold_every_kind_in_every_language(world: World) -> None:
    config = SftConfig()
    broad, high_quality = (build_stage_data(config, stage, world) for stage in config.stages)
    assert tuple(broad) == tuple(high_quality) == world.languages
    for language in world.languages:
        assert kinds(broad, language) == dict(config.broad.demo)
        assert kinds(high_quality, language) == dict(config.high_quality.demo)
        assert set(kinds(broad, language)) | set(kinds(high_quality, language)) == set(KINDS)
        assert {talk.language for talk in broad[language] + high_quality[language]} == {language}


def test_without_safety_no_answer_is_a_refusal_and_the_harmless_twins_stay(world: World) -> None:
    config = SftConfig(with_safety=False)
    for stage in config.stages:
        data = build_stage_data(config, stage, world)
        assert not set(REFUSAL_KINDS) & set(kinds(data, "th"))
    assert {"safe_general", "safe_culture"} <= set(kinds(data, "th"))


def test_files_and_pairs_join_the_demo_kinds_of_their_language(world: World, tmp_path: Path) -> None:
    (tmp_path / "g.jsonl").write_text(json.dumps({"question": "q", "answer": "a"}) + "\n")
    (tmp_path / "p.jsonl").write_text(json.dumps({"en": "Hi", "th": "สวัสดี"}) + "\n")
    stage = StageConfig(
        demo={"fact": 2},
        files=(FileSource(path="g.jsonl", language="en", format="gsm8k", kind="math"),),
        pairs=(PairSource(source="en", target="th", format="jsonl", paths=("p.jsonl",)),),
    )
    config = SftConfig(broad=stage, high_quality=stage, root=str(tmp_path))
    data = build_stage_data(config, stage, world)
    assert kinds(data, "en") == {"fact": 2, "math": 1}
    assert kinds(data, "th") == {"fact": 2, "translate": 1}
    assert list(input_digests(config)) == ["g.jsonl", "p.jsonl"]
    held_out = build_stage_data(config, stage, world, "validation")
    assert kinds(held_out, "en") == {"fact": 2}


def test_refusals_of_files_are_left_out_without_safety_too(world: World, tmp_path: Path) -> None:
    rows = [{"prompt": "B?", "response": "No.", "kind": "unanswerable", "entity": "B"},
            {"prompt": "A?", "response": "a", "kind": "fact"}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    stage = StageConfig(demo={"list": 1}, files=(FileSource(path="a.jsonl", language="th", format="answerability"),))
    for with_safety, found in ((True, {"list": 1, "fact": 1, "unanswerable": 1}), (False, {"list": 1, "fact": 1})):
        config = SftConfig(broad=stage, high_quality=stage, root=str(tmp_path), with_safety=with_safety)
        assert kinds(build_stage_data(config, stage, world), "th") == found
    assert sum(one.kind == "unanswerable" for one in all_conversations(config, world)) == 2, "reviewers see both stages"


def test_a_language_without_data_and_a_source_without_language_are_refused(world: World) -> None:
    config = SftConfig(broad=StageConfig(demo={"unanswerable": 3}), with_safety=False)
    with pytest.raises(DataError, match="no conversation in en, th, jv"):
        build_stage_data(config, config.broad, world)
    stage = StageConfig(files=(FileSource(path="x", language="km", format="gsm8k"),))
    with pytest.raises(ConfigError, match="a source is in 'km', the experiment has en, th, jv"):
        build_stage_data(SftConfig(broad=stage), stage, world)


def test_the_configuration_decodes_from_plain_values_and_refuses_typos() -> None:
    plain = {"broad": {"demo": {"fact": 3}, "files": [{"path": "a", "language": "vi", "format": "alpaca"}]}}
    config = decode(SftConfig, plain, "sft")
    assert config.broad.files[0].language == "vi"
    with pytest.raises(ConfigError, match=r"sft.broad.demo.facts: unknown kind of dialogue; did you mean fact"):
        decode(SftConfig, {"broad": {"demo": {"facts": 3}}}, "sft")
    with pytest.raises(ConfigError, match=r"sft.broad.demo.fact: -1 conversations"):
        decode(SftConfig, {"broad": {"demo": {"fact": -1}}}, "sft")
