"""What stands in a benchmark is left out of text and conversations, and named: file, row, item."""

import json

import pytest

from sea_ray.artifacts import Store
from sea_ray.data_report import data_report
from sea_ray.execution import SoloPlatform
from sea_ray.launch.compose import compose_experiment
from sea_ray.plan import conversations, corpus
from sea_ray.report.data_page import OverlapRow, write_data_report

ITEMS = ["Which of the seven bridges over the northern river was painted blue?",
         "Who keeps the mill at the end of the long road by the sea?"]
FOUND = ["whichofthesevenbridgesoverthenorthernriverwaspaintedblue", "whokeepsthemillattheendofthelongroadbythesea"]


def write_rows(file, rows):
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture
def config(tmp_path, miniature):
    """Thai and English text of which the 40th English line repeats an item, and six conversations of which the fifth does."""
    lines = [f"Boat {number} of the harbour carries {number * 7} baskets of rice." for number in range(90)]
    (tmp_path / "en.txt").write_text("\n".join([*lines[:39], f"Quiz! {ITEMS[0].upper()} Say it.", *lines[39:]]))
    (tmp_path / "th.txt").write_text("\n".join(f"th {number} river" for number in range(90)))
    write_rows(tmp_path / "xstest.jsonl", [{"prompt": item, "label": "safe"} for item in ITEMS])
    talks = [{"prompt": f"How many baskets are on boat {number}?", "response": f"{number * 7}."} for number in range(6)]
    talks[4]["response"] = f"You ask: {ITEMS[1]} The keeper."
    write_rows(tmp_path / "talks.jsonl", talks)
    source = "[{path: talks.jsonl, language: en, format: prompt_response}]"
    return compose_experiment([
        *(text for text in miniature if not text.startswith(("corpus.languages", "neurons.languages", "~sft.mixes", "+sft.mixes",
                                                             "sft.mix", "sweep.mixes"))),
        "corpus.languages=[en,th]", "neurons.languages=[th]", "~sft.mixes", "+sft.mixes={even: {en: 1, th: 1}}", "sft.mix=even",
        "sweep.mixes.space={sft.mix: [even]}", "corpus.source=files", f"corpus.root={tmp_path}",
        "corpus.identify_language=false", "+corpus.paths={en: [{glob: en.txt}], th: [{glob: th.txt}]}", "corpus.test_frac=0.2",
        "corpus.validation_frac=0.2", f"benchmarks.root={tmp_path}", "+benchmarks.files={xstest: xstest.jsonl}",
        f"sft.data.root={tmp_path}", f"sft.data.broad.files={source}"])


def test_documents_and_conversations_are_named_and_stand_on_the_page(config, tmp_path):
    platform = SoloPlatform(Store(str(tmp_path / "store")))
    text = platform.run(corpus(config))
    talks = platform.run(conversations(config, text))
    report = data_report(config, text, talks, "sea-ray data", "today")
    assert report.overlaps == (
        OverlapRow(part="text", language="en", file="en.txt", row=40, item="xstest/en item 0", passage=FOUND[0]),
        OverlapRow(part="broad", language="en", file="talks.jsonl", row=5, item="xstest/en item 1", passage=FOUND[1]))
    (counted,) = [row for row in text.facts["funnel"] if (row["language"], row["step"]) == ("en", "decontaminate")]
    assert counted["documents_in"] - counted["documents_out"] == 1
    assert [talks.facts[stage]["contaminated"]["en"] for stage in ("broad", "high_quality")] == [1, 0]
    write_data_report(report, tmp_path / "data.html")
    page = (tmp_path / "data.html").read_text(encoding="utf-8")
    assert "Left out, since it stands in a benchmark" in page
    for text in ("en.txt, 40", "talks.jsonl, 5", "xstest/en item 1", FOUND[0]):
        assert text in page
