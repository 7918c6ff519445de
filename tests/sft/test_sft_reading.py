import json
from pathlib import Path

import pytest

from sea_ray.errors import ConfigError, DataError
from sea_ray.sft.reading import read_source
from sea_ray.sft.sources import FileSource, PairSource

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"


def write(folder: Path, name: str, *rows: object) -> str:
    (folder / name).write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return name


def turns(found) -> list[list[tuple[str, str]]]:
    return [[(message.role, message.content) for message in talk.messages] for talk in found]


def test_alpaca_puts_the_input_below_the_instruction(tmp_path: Path) -> None:
    rows = [{"instruction": "Sum up.", "input": "A text.", "output": "Text."}, {"instruction": "Hi", "output": "Hello"}]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    found = read_source(FileSource(path="a.json", language="en", format="alpaca"), tmp_path)
    assert turns(found) == [
        [("user", "Sum up.\nA text."), ("assistant", "Text.")],
        [("user", "Hi"), ("assistant", "Hello")],
    ]
    assert found[0].kind == "instruction"


def test_sharegpt_keeps_all_turns(tmp_path: Path) -> None:
    rows = [{"conversations": [{"from": "system", "value": "S"}, {"from": "human", "value": "U"}, {"from": "gpt", "value": "A"}]},
            {"conversations": [{"from": "human", "value": "U"}, {"from": "bot", "value": "A"}]}]
    (tmp_path / "s.json").write_text(json.dumps(rows[:1]))
    found = read_source(FileSource(path="s.json", language="vi", format="sharegpt"), tmp_path)
    assert turns(found) == [[("system", "S"), ("user", "U"), ("assistant", "A")]]
    (tmp_path / "s.json").write_text(json.dumps(rows))
    with pytest.raises(DataError, match="unknown role 'bot'"):
        read_source(FileSource(path="s.json", language="vi", format="sharegpt"), tmp_path)


def test_openai_messages_keep_system_and_all_turns(tmp_path: Path) -> None:
    messages = [
        {"role": "system", "content": "S"},
        {"role": "user", "content": "U"},
        {"role": "assistant", "content": "A"},
    ]
    name = write(tmp_path, "m.jsonl", {"messages": messages})
    found = read_source(FileSource(path=name, language="th", format="messages", kind="chat"), tmp_path)
    assert turns(found) == [[("system", "S"), ("user", "U"), ("assistant", "A")]]
    assert (found[0].language, found[0].kind) == ("th", "chat")


def test_gsm8k_loses_its_calculator_marks_and_keeps_its_answer(tmp_path: Path) -> None:
    name = write(tmp_path, "g.jsonl", {"question": "6/2?", "answer": "6/2 = <<6/2=3>>3.\n#### 3"})
    found = read_source(FileSource(path=name, language="en", format="gsm8k"), tmp_path)
    assert turns(found) == [[("user", "6/2?"), ("assistant", "6/2 = 3.\n#### 3")]]


def test_skip_and_maximum_cut_a_file_into_disjoint_parts(tmp_path: Path) -> None:
    name = write(tmp_path, "p.jsonl", *({"prompt": f"q{i}", "response": f"a{i}"} for i in range(6)))
    parts = [
        read_source(
            FileSource(path=name, language="vi", format="prompt_response", skip=skip, max_conversations=most), tmp_path
        )
        for skip, most in ((0, 2), (2, 0))
    ]
    assert [talk.messages[0].content for part in parts for talk in part] == [f"q{i}" for i in range(6)]


def test_parallel_lines_become_requests_in_both_directions(tmp_path: Path) -> None:
    (tmp_path / "en.txt").write_text("Good morning.\nThank you.\n")
    (tmp_path / "id.txt").write_text("Selamat pagi.\nTerima kasih.\n")
    source = PairSource(source="en", target="id", format="lines", paths=("en.txt", "id.txt"))
    found = read_source(source, tmp_path)
    assert turns(found) == [
        [("user", "Translate into Indonesian: Good morning."), ("assistant", "Selamat pagi.")],
        [("user", "Terjemahkan ke dalam bahasa Inggris: Terima kasih."), ("assistant", "Thank you.")],
    ]
    assert {talk.language for talk in found} == {"id"}


def test_parallel_jsonl_and_csv_read_the_named_fields(tmp_path: Path) -> None:
    name = write(tmp_path, "p.jsonl", {"en": "One", "th": "หนึ่ง"}, {"en": "", "th": " "})
    (found,) = read_source(PairSource(source="en", target="th", format="jsonl", paths=(name,)), tmp_path)
    assert found.messages[1].content == "หนึ่ง"
    (tmp_path / "p.csv").write_text('n,english,javanese\n0,"One, two",siji\n', encoding="utf-8")
    source = PairSource(source="en", target="jv", format="csv", paths=("p.csv",), fields=("english", "javanese"))
    (found,) = read_source(source, tmp_path)
    assert found.messages[0].content.endswith("One, two")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"prompt": "a", "response": "b"}\n{"prompt": "a"}\n', r"x.jsonl:2: .*needs the field 'response'"),
        ('{"prompt": "a", "response": "b"}\n{broken\n', r"x.jsonl:2: not JSON"),
        ('{"prompt": "a", "response": " "}\n', r"x.jsonl:1: a turn of the assistant is empty"),
        ('{"prompt": "a", "response": 3}\n', r"x.jsonl:1: "),
        ("[1]\n", r"x.jsonl:1: "),
    ],
)
def test_a_bad_row_is_refused_with_file_and_line(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "x.jsonl").write_text(content)
    with pytest.raises(DataError, match=message):
        read_source(FileSource(path="x.jsonl", language="en", format="prompt_response"), tmp_path)


def test_bad_files_and_settings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none.json: the file does not exist"):
        read_source(FileSource(path="none.json", language="en", format="alpaca"), tmp_path)
    (tmp_path / "d.json").write_text("{}")
    with pytest.raises(DataError, match="a list of rows is needed, this is dict"):
        read_source(FileSource(path="d.json", language="en", format="alpaca"), tmp_path)
    (tmp_path / "b.json").write_bytes(b'["\xff"]')
    with pytest.raises(DataError, match="not UTF-8 at byte 2"):
        read_source(FileSource(path="b.json", language="en", format="alpaca"), tmp_path)
    (tmp_path / "one.txt").write_text("a\nb\n")
    (tmp_path / "two.txt").write_text("a\n")
    with pytest.raises(DataError, match="aligned files have equally many"):
        read_source(PairSource(source="en", target="id", format="lines", paths=("one.txt", "two.txt")), tmp_path)
    with pytest.raises(ConfigError, match="unknown language 'thai'"):
        FileSource(path="x", language="thai", format="gsm8k")
    with pytest.raises(ConfigError, match="1 files for format lines, 2 are needed"):
        PairSource(source="en", target="id", format="lines", paths=("one.txt",))
    with pytest.raises(ConfigError, match="-1 is negative"):
        FileSource(path="x", language="th", format="gsm8k", skip=-1)


@pytest.mark.skipif(not DATA.is_dir(), reason="no real data beside the project (../shared/data)")
def test_the_real_files_read_whole() -> None:
    files = [
        FileSource(path="sft/alpaca_en_demo.json", language="en", format="alpaca"),
        FileSource(path="sft/alpaca_zh_demo.json", language="zh", format="alpaca"),
        FileSource(path="sft/gsm8k_train.jsonl", language="en", format="gsm8k"),
        FileSource(path="sft/lima_vi.jsonl", language="vi", format="prompt_response"),
    ]
    assert [len(read_source(file, DATA)) for file in files] == [999, 1000, 7473, 1025]
    nusax = ("english", "javanese")
    pairs = [
        PairSource(source="en", target="lo", format="lines", paths=("parallel/ntrex/en.txt", "parallel/ntrex/lo.txt")),
        PairSource(source="en", target="my", format="jsonl", paths=("parallel/tico19/en-my.jsonl",)),
        PairSource(source="en", target="jv", format="csv", paths=("parallel/nusax/train.csv",), fields=nusax),
    ]
    assert [len(read_source(pair, DATA)) for pair in pairs] == [1997, 3071, 500]


def test_answerability_rows_say_their_kind_and_entity(tmp_path: Path) -> None:
    rows = [{"prompt": "Who is A?", "response": "x", "kind": "fact"},
            {"prompt": "Who is B?", "response": "y", "kind": "unanswerable", "entity": "B"}]
    name = write(tmp_path, "a.jsonl", *rows)
    found = read_source(FileSource(path=name, language="en", format="answerability"), tmp_path)
    assert [(talk.kind, talk.entity) for talk in found] == [("fact", None), ("unanswerable", "B")]


@pytest.mark.parametrize(("change", "message"), [
    ({"kind": "unanswerabel"}, "kind is 'unanswerabel'; fact or unanswerable is needed"),
    ({"entity": "C"}, "does not hold the entity 'C'"), ({"entity": ""}, "does not hold the entity ''"),
    ({"entity": 3}, r"a.jsonl:1: ")])
def test_a_bad_answerability_row_is_refused(tmp_path: Path, change: dict[str, object], message: str) -> None:
    write(tmp_path, "a.jsonl", {"prompt": "Who is B?", "response": "y", "kind": "unanswerable", "entity": "B"} | change)
    with pytest.raises(DataError, match=message):
        read_source(FileSource(path="a.jsonl", language="en", format="answerability"), tmp_path)


@pytest.mark.parametrize(("turns", "says"), [
    ([("user", "U"), ("assistant", "A"), ("assistant", "B")], "user and assistant must take turns"),
    ([("user", "U")], "assistant last"), ([("system", "S")], "assistant last"), ([], "roles are none"),
    ([("bot", "U"), ("assistant", "A")], "unknown role 'bot'"),
    ([("user", "\u200b"), ("assistant", "A")], "a turn of the user is empty"),
    ([("user", None), ("assistant", "A")], "a turn of the user is NoneType, text is needed"),
    ([("user", [{"type": "text"}]), ("assistant", "A")], "a turn of the user is list, text is needed"),
    ([("user", "U"), ("assistant", "\ud83d")], "half of a surrogate pair"),
])
def test_a_bad_conversation_is_refused_with_file_and_line(tmp_path: Path, turns: list, says: str) -> None:
    rows = [[("user", "U"), ("assistant", "A")], turns]
    lines = [json.dumps({"messages": [{"role": role, "content": text} for role, text in some]}) for some in rows]
    (tmp_path / "m.jsonl").write_text("\n".join(lines))
    with pytest.raises(DataError, match=rf"m\.jsonl:2: .*{says}"):
        read_source(FileSource(path="m.jsonl", language="en", format="messages"), tmp_path)


@pytest.mark.parametrize("row", ['{"messages": "hello"}', '{"messages": null}', '{"messages": ["a", "b"]}', "null", "[1]"])
def test_a_row_of_another_shape_is_no_row_of_the_format(tmp_path: Path, row: str) -> None:
    (tmp_path / "m.jsonl").write_text(row)
    with pytest.raises(DataError, match=r"m\.jsonl:1: (not a row of format messages|a row of format messages needs the field)"):
        read_source(FileSource(path="m.jsonl", language="en", format="messages"), tmp_path)


@pytest.mark.parametrize(("kind", "name"), [("messages", "m.jsonl"), ("alpaca", "a.json")])
def test_nested_json_empty_and_unreadable_files_are_refused(tmp_path: Path, kind: str, name: str) -> None:
    source = FileSource(path=name, language="en", format=kind)  # type: ignore[arg-type]
    for content, says in (("[" * 100_000, "not JSON"), ("[]" if kind == "alpaca" else "\n", "no conversation is left")):
        (tmp_path / name).write_text(content)
        with pytest.raises(DataError, match=says):
            read_source(source, tmp_path)
    (tmp_path / name).unlink()
    (tmp_path / name).mkdir()
    with pytest.raises(DataError, match=r"cannot be read \(Is a directory\)"):
        read_source(source, tmp_path)


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    for name, content in (("en.txt", "One.\n"), ("id.txt", "Satu.\n"), ("p.csv", "en,id\nOne.,Satu.\n")):
        (tmp_path / name).write_text(content, encoding="utf-8-sig")
    for kind, paths in (("lines", ("en.txt", "id.txt")), ("csv", ("p.csv",))):
        source = PairSource(source="en", target="id", format=kind, paths=paths)  # type: ignore[arg-type]
        assert turns(read_source(source, tmp_path)) == [[("user", "Translate into Indonesian: One."), ("assistant", "Satu.")]]


def test_only_line_breaks_end_a_row_of_csv_and_fields_may_be_long(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text(f"en,id\nOne\u2028two\x0bthree\x85four,{'satu ' * 40_000}\n", encoding="utf-8")
    (found,) = read_source(PairSource(source="en", target="id", format="csv", paths=("p.csv",)), tmp_path)
    assert found.messages[0].content.endswith("One two three four")
    assert len(found.messages[1].content) == 199_999


@pytest.mark.parametrize(("kind", "content", "says"), [
    ("csv", "en,id\nOne, two,Satu\n", "2: more fields than the header"),
    ("csv", 'en,id\n"One,Satu\n"Two,Dua\n', "2: not readable as a row"),
    ("csv", "en,id\nOne,Satu\nTwo,\n", "3: a text in 'en' without its translation"),
    ("jsonl", '{"en": "", "id": "Satu"}', "1: a text in 'id' without its translation"),
    ("jsonl", "[1]", "1: fields are none, the row is list; en and id are needed"),
    ("csv", "en,id\n", " no conversation is left"),
])
def test_a_bad_pair_is_refused_with_file_and_line(tmp_path: Path, kind: str, content: str, says: str) -> None:
    (tmp_path / "p").write_text(content)
    with pytest.raises(DataError, match=f"p:{says}"):
        read_source(PairSource(source="en", target="id", format=kind, paths=("p",)), tmp_path)  # type: ignore[arg-type]
