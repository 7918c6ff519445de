import json

import pytest

from sea_ray.evaluation.figures import EvalReport, Figure
from sea_ray.evaluation.published import Published, published_rows
from sea_ray.evaluation.tables import as_json, as_latex, as_markdown, as_text, log_tables, tables
from sea_ray.languages import LANGUAGES
from sea_ray.tracking import JsonlTracker


def figure(language, value, n=40, task="mgsm", metric="exact_match", higher=True):
    return Figure(task=task, metric=metric, language=language, value=value, n=n, low=value - 0.1, high=value + 0.1,
                  higher_is_better=higher)


def report(model, *figures):
    settings = {"prompting": "chat", "decoding": "greedy", "max_new_tokens": 48, "dialogue_tokens": 512}
    return EvalReport(model=model, figures=figures, settings=settings | {"checkpoint": f"print-of-{model}"})


HOW = "asked as chat, greedy, up to 48 tokens, in dialogues 512, checkpoint print-of-"
MODELS = (report("base", figure("th", 0.2), figure("vi", 0.4, n=12)), report("my_winner", figure("th", 0.6)))
ROW = Published(task="mgsm", metric="exact_match", model="Other-7B", source="their card, table 2",
                values={"th": 0.712, "en": 0.748}, average=0.731)


def test_models_stand_side_by_side_with_interval_and_n_and_few_items_are_marked():
    (table,) = tables(MODELS)
    assert as_text(table).splitlines() == [
        "mgsm exact_match ↑",
        "      base                        my_winner",
        "vi    0.400 [0.300, 0.500] n=12*",
        "th    0.200 [0.100, 0.300] n=40   0.600 [0.500, 0.700] n=40",
        "mean  0.300",
        "* fewer than 30 items: the interval says little",
        "base: asked as chat, greedy, up to 48 tokens, in dialogues 512, checkpoint print-of-base",
        "my_winner: asked as chat, greedy, up to 48 tokens, in dialogues 512, checkpoint print-of-my_winner",
    ]


def test_published_rows_stand_beside_are_marked_and_enter_no_mean():
    (plain,), (table,) = tables(MODELS), tables(MODELS, [ROW])
    published = table.columns[-1]
    assert published.heading == "Other-7B (published)"
    assert {code: cell.value for code, cell in published.cells.items()} == {"th": 0.712, "en": 0.748, "mean": 0.731}
    assert published.cells["th"].low is None
    assert [column.cells.get("mean") for column in table.columns[:2]] == [column.cells.get("mean") for column in plain.columns]
    assert table.rows == ("en", "vi", "th", "mean")
    assert "published: their card, table 2" in as_text(table)


def test_published_rows_of_what_was_not_measured_are_left_out():
    (table,) = tables(MODELS, [Published(**vars(ROW) | {"metric": "accuracy"})])
    assert [column.kind for column in table.columns] == ["measured", "measured"]


def test_always_refusing_stands_beside_every_f1():
    refusal = [figure("th", 0.5, 30, "searefuse_g", "tpr"), figure("th", 0.1, 30, "searefuse_g", "fpr", higher=False),
               figure("th", 0.7, 60, "searefuse_g", "f1"), figure("vi", 0.7, 30, "searefuse_g", "f1")]
    f1 = next(table for table in tables([report("m", *refusal)]) if table.metric == "f1")
    assert [column.heading for column in f1.columns] == ["m", "always refusing (baseline)"]
    assert f1.columns[1].cells["th"].value == pytest.approx(2 / 3)
    unequal = [figure("th", 0.5, 10, metric="tpr"), figure("th", 0.1, 30, metric="fpr"), figure("th", 0.7, 40, metric="f1")]
    f1 = next(table for table in tables([report("m", *unequal)]) if table.metric == "f1")
    assert f1.columns[1].cells["th"].value == pytest.approx(2 * 10 / (2 * 10 + 30))


def test_markdown_is_a_table_whose_cells_hold_no_bars():
    (table,) = tables([report("a|b", figure("th", 0.2))], [ROW])
    lines = as_markdown(table).splitlines()
    assert lines[:5] == ["### mgsm exact_match ↑", "", "|  | a\\|b | Other-7B (published) |", "| --- | --- | --- |",
                         "| en |  | 0.748 |"]
    assert lines[-1] == "published: their card, table 2"


def test_latex_escapes_names_and_has_a_column_per_model():
    (table,) = tables(MODELS, [ROW])
    text = as_latex(table)
    assert r"mgsm exact\_match $\uparrow$" in text
    assert r"\begin{tabular}{lrrr}" in text
    assert r" & base & my\_winner & Other-7B (published) \\" in text
    assert text.count("\\\\") == 1 + len(table.rows)


def test_json_has_every_value_with_its_interval_kind_and_source():
    (table,) = tables(MODELS, [ROW])
    found = json.loads(as_json(table))
    assert found["columns"][0]["cells"]["vi"] == {"value": 0.4, "low": pytest.approx(0.3), "high": 0.5, "n": 12}
    assert [(column["kind"], column["source"]) for column in found["columns"]] == [
        ("measured", f"{HOW}base"), ("measured", f"{HOW}my_winner"), ("published", "their card, table 2")]


def test_the_tracker_gets_one_long_table(tmp_path):
    log_tables(tables(MODELS, [ROW]), JsonlTracker(tmp_path / "events.jsonl"))
    (event,) = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert event["table"] == "figures"
    rows = [dict(zip(event["columns"], row, strict=True)) for row in event["rows"]]
    assert len(rows) == 2 + 1 + 1 + 3
    thai = next(row for row in rows if row["model"] == "my_winner")
    assert thai == {"task": "mgsm", "metric": "exact_match", "language": "th", "model": "my_winner", "kind": "measured",
                    "value": 0.6, "low": 0.5, "high": 0.7, "n": 40, "source": f"{HOW}my_winner"}


def test_every_published_row_has_a_source_known_languages_and_values_of_its_scale():
    rows = published_rows()
    assert len({(row.task, row.metric, row.model) for row in rows}) == len(rows) > 15
    for row in rows:
        values = [*row.values.values(), *([row.average] if row.average is not None else [])]
        assert row.source
        assert values
        assert set(row.values) <= set(LANGUAGES)
        low, high = {"chrf": (5, 100), "points_judge": (1, 10)}.get(row.metric, (0, 1))
        assert all(low <= value <= high for value in values)


def test_published_averages_are_the_means_of_their_languages_but_for_one_that_its_source_has_wrong():
    off = [(row.task, row.model) for row in published_rows() if row.values and row.average is not None
           and sum(row.values.values()) / len(row.values) != pytest.approx(row.average, rel=1e-3)]
    assert off == [("flores", "SeaLLMs-v3-7B-Chat")]
