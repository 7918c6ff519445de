import csv
import json
from unittest.mock import Mock

import pytest

from sea_ray.errors import DataError
from sea_ray.sft.conversation import Conversation, Message, conversation
from sea_ray.sft.review import Decision, agreement, join, read_sheet, review_id, reviewed, sample, write_sheets

DATA = [conversation(f"question {number} {code}", f"answer {number}", code, kind)
        for code in ("th", "vi") for kind in ("fact", "unsafe_culture") for number in range(30)]
KNOWN = [review_id(one) for one in DATA]


def filled(file, decide):
    """Fill in a sheet: decide(row) returns the columns to set."""
    with file.open(encoding="utf-8-sig", newline="") as stream:
        rows = [row | decide(row) for row in csv.DictReader(stream)]
    with file.open("w", encoding="utf-8-sig", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return file


def test_a_sample_holds_some_of_each_language_and_kind_and_is_its_seeds():
    chosen = sample(DATA, 5, seed=1)
    assert len(chosen) == len(set(map(review_id, chosen))) == 20
    assert {(one.language, one.kind) for one in chosen} == {(one.language, one.kind) for one in DATA}
    assert chosen == sample(DATA[::-1], 5, seed=1)[::-1] or set(chosen) == set(sample(DATA[::-1], 5, seed=1))
    assert set(chosen) != set(sample(DATA, 5, seed=2))
    assert len(sample([*DATA, *DATA], 100, seed=1)) == len(DATA)


def test_sheets_come_back_with_their_decisions(tmp_path):
    thai, vietnamese = write_sheets(sample(DATA, 5, seed=1), tmp_path)
    assert read_sheet(thai, KNOWN) == {}
    choices = iter(["accept", "Reject ", "fix", *[""] * 7])
    filled(thai, lambda row: {"decision": (choice := next(choices)), "fixed_answer": "better ดีกว่า" if choice == "fix" else ""})
    decisions = read_sheet(thai, KNOWN)
    assert [one.choice for one in decisions.values()] == ["accept", "reject", "fix"]
    assert list(decisions.values())[2].fixed_answer == "better ดีกว่า"
    lines = [json.loads(line) for line in vietnamese.with_suffix(".jsonl").read_text().splitlines()]
    lines[0]["decision"] = "accept"
    vietnamese.with_suffix(".jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert list(read_sheet(vietnamese.with_suffix(".jsonl"), KNOWN)) == [lines[0]["id"]]


def test_a_sheet_that_is_there_is_never_overwritten(tmp_path):
    write_sheets(DATA[:3], tmp_path)
    with pytest.raises(DataError, match="may hold decisions"):
        write_sheets(DATA[:3], tmp_path)


@pytest.mark.parametrize(("change", "says"), [
    ({"id": "r0123456789abcdef"}, "the data have changed"),
    ({"id": KNOWN[1], "decision": "accept"}, "is there twice"),
    ({"id": KNOWN[1], "decision": ""}, "is there twice"),
    ({"decision": "accept", "fixed_answer": "better"}, "the decision is 'accept': write fix"),
    ({"decision": "", "fixed_answer": "better"}, "the decision is '': write fix"),
    ({"decision": "fix", "fixed_answer": "\u200b"}, "needs the better answer"),
    ({"decision": "acept"}, "did you mean accept"),
    ({"decision": "fix"}, "needs the better answer"),
])
def test_a_bad_row_is_refused_with_file_and_line(tmp_path, change, says):
    (file,) = write_sheets(DATA[1:3], tmp_path)
    filled(file, lambda row: {"decision": "accept"} if row["id"] == KNOWN[1] else change)
    with pytest.raises(DataError, match=says) as caught:
        read_sheet(file, KNOWN)
    assert (caught.value.file, caught.value.line) == (file, 3)


def test_sheets_of_other_spreadsheets_are_read_or_refused(tmp_path):
    assert not any(number[0].isdigit() for number in KNOWN), "a spreadsheet would round it"
    (tmp_path / "a.csv").write_text(f"id;decision;fixed_answer\n{KNOWN[0]};accept;\n")
    assert read_sheet(tmp_path / "a.csv", KNOWN) == {KNOWN[0]: Decision(choice="accept")}
    (tmp_path / "b.csv").write_bytes(f"id,decision,comment\n{KNOWN[0]},accept,caf\u00e9\n".encode("cp1252"))
    with pytest.raises(DataError, match="not UTF-8; save it as CSV UTF-8"):
        read_sheet(tmp_path / "b.csv", KNOWN)


def test_a_missing_sheet_or_column_is_refused(tmp_path):
    with pytest.raises(DataError, match="no such review sheet"):
        read_sheet(tmp_path / "th.csv", KNOWN)
    (tmp_path / "th.csv").write_text("id,verdict\n1,accept\n")
    with pytest.raises(DataError, match=r"column decision, fixed_answer is missing; the header has \['id', 'verdict'\]"):
        read_sheet(tmp_path / "th.csv", KNOWN)


HEADER = "id,decision,fixed_answer"


@pytest.mark.parametrize(("rows", "says"), [
    (f"{KNOWN[0]}", "has not the 3 fields of the header"),
    (f"{KNOWN[0]},accept,,more", "has not the 3 fields of the header"),
    (f'"{KNOWN[0]},accept,\n', "not readable as a row of a table"),
])
def test_a_broken_row_of_a_sheet_is_refused(tmp_path, rows, says):
    (tmp_path / "th.csv").write_text(f"{HEADER}\n{rows}")
    with pytest.raises(DataError, match=rf"th\.csv:2: .*{says}"):
        read_sheet(tmp_path / "th.csv", KNOWN)


def test_empty_rows_say_nothing_and_answers_may_be_long(tmp_path):
    (tmp_path / "th.csv").write_text(f"{HEADER}\n{KNOWN[0]},fix,{'long ' * 40_000}\n,,\n\n,,\n")
    assert len(read_sheet(tmp_path / "th.csv", KNOWN)[KNOWN[0]].fixed_answer) == 199_999


def test_nested_json_and_unreadable_sheets_are_refused(tmp_path, monkeypatch):
    (tmp_path / "th.jsonl").write_text("[" * 100_000)
    with pytest.raises(DataError, match=r"th\.jsonl:1: not valid JSON"):
        read_sheet(tmp_path / "th.jsonl", KNOWN)
    monkeypatch.setattr("pathlib.Path.read_text", Mock(side_effect=PermissionError(13, "Permission denied")))
    with pytest.raises(DataError, match=r"th\.jsonl: cannot be read \(Permission denied\)"):
        read_sheet(tmp_path / "th.jsonl", KNOWN)


def test_only_what_passes_is_taught():
    decisions = {KNOWN[0]: Decision(choice="accept"), KNOWN[1]: Decision(choice="reject"),
                 KNOWN[2]: Decision(choice="fix", fixed_answer="better")}
    kept, counts = reviewed(DATA[:4], decisions, require=True)
    assert kept == [DATA[0], conversation(DATA[2].messages[0].content, "better", "th", "fact")]
    assert counts == {"accept": 1, "reject": 1, "fix": 1, "undecided": 1}
    kept, _ = reviewed(DATA[:4], decisions, require=False)
    assert DATA[3] in kept
    assert DATA[1] not in kept


def test_several_turns_are_shown_and_the_last_answer_is_fixed(tmp_path):
    long = Conversation((Message("user", "a"), Message("assistant", "b"), Message("user", "c"), Message("assistant", "d")),
                        "th", "talk")
    (file,) = write_sheets([long], tmp_path)
    assert "assistant: b" in file.read_text(encoding="utf-8")
    (fixed,), _ = reviewed([long], {review_id(long): Decision(choice="fix", fixed_answer="e")}, require=True)
    assert [turn.content for turn in fixed.messages] == ["a", "b", "c", "e"]


def test_reviewers_are_joined_with_the_strictest_decision():
    accept, fix, reject = Decision(choice="accept"), Decision(choice="fix", fixed_answer="x"), Decision(choice="reject")
    assert join([{"a": accept, "b": fix}, {"a": reject, "b": accept, "c": accept}]) == {"a": reject, "b": fix, "c": accept}
    with pytest.raises(DataError, match="differently"):
        join([{"a": fix}, {"a": Decision(choice="fix", fixed_answer="y")}])


def test_agreement_is_cohens_kappa():
    """Two raters of 50 items: 20 both accept, 5 and 10 disagree, 15 both reject: kappa 0.4."""
    pairs = [("accept", "accept")] * 20 + [("accept", "reject")] * 5 + [("reject", "accept")] * 10 + [("reject", "reject")] * 15
    sheets = [{str(number): Decision(choice=pair[side]) for number, pair in enumerate(pairs)} for side in (0, 1)]
    found = agreement(*sheets)
    assert (found.items, found.share) == (50, 0.7)
    assert found.kappa == pytest.approx(0.4)
    assert agreement({"a": Decision(choice="accept")}, {"a": Decision(choice="accept")}).kappa == 1
    with pytest.raises(DataError, match="no decided item in common"):
        agreement({"a": Decision(choice="accept")}, {})
