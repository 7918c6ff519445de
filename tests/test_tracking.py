"""The border to whatever shows a run."""

import json
import threading

from sea_ray.tracking import JsonlTracker, NullTracker, Trackers


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
