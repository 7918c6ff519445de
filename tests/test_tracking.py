"""The border to whatever shows a run."""

import json
import threading

import pytest

from sea_ray.tracking import About, JsonlTracker, Made, NullTracker, Once, Trackers, figures_of, read_mirror


def lines(file):
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def test_the_mirror_has_one_line_per_call_with_its_run(tmp_path):
    file = tmp_path / "run" / "events.jsonl"
    tracker = JsonlTracker(file)
    child = tracker.child("neurons").child("th")
    child.log(step=3, loss=1.5)
    child.log(gain=0.1)
    tracker.note("ภาษาไทย")
    child.finish(failed=True)
    found = lines(file)
    assert [{key: value for key, value in line.items() if key != "time"} for line in found] == [
        {"run": "neurons/th", "step": 3, "loss": 1.5}, {"run": "neurons/th", "gain": 0.1},
        {"run": "", "note": "ภาษาไทย"}, {"run": "neurons/th", "finished": False}]
    assert all(line["time"] > 1.7e9 for line in found)


def test_a_second_run_is_appended(tmp_path):
    for number in range(2):
        JsonlTracker(tmp_path / "events.jsonl").log(number=number)
    assert [line["number"] for line in lines(tmp_path / "events.jsonl")] == [0, 1]


def test_lines_from_many_threads_stay_whole(tmp_path):
    tracker = JsonlTracker(tmp_path / "events.jsonl")

    def write(number):
        for step in range(50):
            tracker.child(f"trial {number}").log(step=step, loss=1.0)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(lines(tmp_path / "events.jsonl")) == 200


def test_several_trackers_each_get_every_call_in_order(tmp_path):
    class Recorder:
        def __init__(self, name, calls):
            self.name, self.calls = name, calls

        def log(self, step=None, **figures):
            self.calls.append((self.name, "log", step, figures))

        def note(self, text):
            self.calls.append((self.name, "note", text))

        def child(self, name, about=None):
            return Recorder(f"{self.name}/{name}", self.calls)

        def finish(self, *, failed=False):
            self.calls.append((self.name, "finish", failed))

    calls = []
    child = Trackers([Recorder("a", calls), Recorder("b", calls)]).child("th")
    child.log(step=1, loss=2.0)
    child.note("hello")
    child.finish(failed=True)
    assert calls == [(f"{name}/th", *call) for call in (("log", 1, {"loss": 2.0}), ("note", "hello"), ("finish", True))
                     for name in "ab"]


def test_the_null_tracker_takes_everything():
    tracker = NullTracker().child("a").child("b")
    tracker.log(step=1, loss=1.0)
    tracker.note("x")
    tracker.finish(failed=True)


def test_a_table_is_one_line_of_the_mirror_and_reaches_every_part(tmp_path):
    files = [tmp_path / name / "events.jsonl" for name in ("one", "other")]
    tracker = Trackers([NullTracker(), *(JsonlTracker(file) for file in files)])
    tracker.child("figures").table("all", ["a", "b"], [("ก", None), ("c", 1.5)])
    for file in files:
        (line,) = lines(file)
        assert (line["run"], line["table"], line["columns"]) == ("figures", "all", ["a", "b"])
        assert line["rows"] == [["ก", None], ["c", 1.5]]


def test_a_run_with_an_identity_is_found_again_by_it_with_its_parts(tmp_path):
    file = tmp_path / "events.jsonl"
    tracker = JsonlTracker(file)
    run = tracker.child("neurons/top_frac=0.05", About(key="abc"))
    run.child("th").child("late").log(step=1, loss=0.5)
    run.log(gain=0.1)
    tracker.child("figures").log(step=1, n=2)
    with file.open("a") as stream:
        stream.write('{"time": 1, "run": "half a')
    JsonlTracker(file).child("base", About(key="def")).log(step=0, loss=2.0)  # the next process
    found = read_mirror(file)
    assert list(found) == ["abc", "def"], "the half line took nothing with it"
    assert [(line["part"], figures_of(line)) for line in found["abc"]] == [("th/late", {"loss": 0.5}), ("", {"gain": 0.1})]
    assert read_mirror(tmp_path / "none.jsonl") == {}


def resumed(file, key="abc"):
    """Return what a process that begins now passes on of a run, and the mirror."""
    before = read_mirror(file)
    return Once(JsonlTracker(file), before).child("base", About(key=key))


def test_steps_that_a_training_repeats_are_shown_once_though_new_figures_of_them_are_shown(tmp_path):
    file = tmp_path / "events.jsonl"
    run = resumed(file)
    for step in range(5):
        run.child("th").log(step=step, loss=1.0 - step / 10)
    run = resumed(file)
    for step in range(3, 7):
        run.child("th").log(step=step, loss=9.0 if step < 5 else 1.0 - step / 10)
    run.child("th").log(step=4, held_out=2.0)
    run.child("vi").log(step=4, loss=3.0)
    run.log(gain=0.1)
    resumed(file).log(gain=0.2)
    shown = [(line["run"], line.get("step"), figures_of(line)) for line in read_mirror(file)["abc"]]
    assert shown == [*(("base/th", step, {"loss": 1.0 - step / 10}) for step in range(7)), ("base/th", 4, {"held_out": 2.0}),
                     ("base/vi", 4, {"loss": 3.0}), ("base", None, {"gain": 0.1}), ("base", None, {"gain": 0.2})]


def test_a_run_of_the_same_name_and_another_identity_shows_everything(tmp_path):
    file = tmp_path / "events.jsonl"
    resumed(file).log(step=0, loss=1.0)
    resumed(file, "changed").log(step=0, loss=2.0)
    assert [line["loss"] for line in lines(file)] == [1.0, 2.0]


def test_the_mirror_says_what_was_made_of_what_and_is_copied_at_the_end_of_a_run(tmp_path):
    copied = []
    run = JsonlTracker(tmp_path / "events.jsonl", publish=copied.append).child("base", About(key="abc"))
    corpus = Made(kind="corpus", fingerprint="c", address="s3://store/artifacts/corpus/c", record=tmp_path)
    run.made(Made(kind="base", fingerprint="b", address="s3://store/artifacts/base/b", record=tmp_path, parents=(corpus,)))
    assert not copied
    run.finish()
    assert copied == [tmp_path / "events.jsonl"]
    made, end = lines(tmp_path / "events.jsonl")
    assert (made["made"], made["kind"], made["parents"], made["address"]) == ("b", "base", ["c"], "s3://store/artifacts/base/b")
    assert end["finished"] is True


def test_a_store_that_takes_no_copy_ends_no_run(tmp_path):
    def publish(file):
        raise OSError("no such bucket")

    JsonlTracker(tmp_path / "events.jsonl", publish=publish).finish()
    finished, note = lines(tmp_path / "events.jsonl")
    assert finished["finished"] is True
    assert note["note"] == "the mirror could not be copied to the store: OSError: no such bucket"


@pytest.mark.parametrize("kind", [NullTracker, lambda: Trackers([NullTracker()]), lambda: Once(NullTracker(), {})])
def test_every_tracker_takes_a_result(kind, tmp_path):
    kind().child("base", About(key="k")).made(Made(kind="base", fingerprint="b", address="/b", record=tmp_path))
