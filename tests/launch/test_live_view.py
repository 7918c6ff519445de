"""What a terminal shows while a run goes on, and what a log gets."""

import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from sea_ray.execution import Proposal
from sea_ray.launch.console import ConsoleTracker, show_rows
from sea_ray.launch.live import LiveTracker, View, live_view


def shown(view):
    console = Console(file=io.StringIO(), width=120)
    console.print(view.render())
    return console.file.getvalue()


class Points:
    """A search of two points that learns nothing."""

    num_trials, identity, rungs = 2, "points", None
    config = SimpleNamespace(objectives={"gain": "max"})

    def __init__(self):
        stage = SimpleNamespace(name="trial")
        self.told, self._left = [], [Proposal(number=number, point={"a.top_frac": 0.1 * (number + 1)}, repetition=0, stage=stage)
                                     for number in range(2)]

    def ask(self):
        return self._left.pop(0) if self._left else None

    def tell(self, proposal, trial):
        self.told.append(trial)


def test_a_training_has_a_bar_with_its_step_losses_and_time_left():
    view = View()
    view.begin("base")
    tracker = LiveTracker(view, Console(file=io.StringIO())).child("base").child("th")
    tracker.log(step=7, loss=2.34567, eta_s=61.0, grad_norm=1.0)
    text = shown(view)
    assert text.startswith("base  ")
    assert "base/th" in text
    assert "step 7" in text
    assert "61 s left" in text
    assert "loss 2.346" in text
    assert "grad_norm" not in text
    tracker.log(step=8, **{"held_out/th": 2.5})
    assert "held_out/th 2.500" in shown(view)
    assert "loss 2.346" in shown(view)


def test_what_has_ended_is_taken_away_with_its_parts():
    view = View()
    root = LiveTracker(view, Console(file=io.StringIO()))
    root.child("sft").log(step=1, loss=1.0)
    root.child("neurons").child("th").log(step=1, loss=1.0)
    root.child("neurons").finish()
    assert list(view.trainings) == ["sft"]
    view.begin("next")
    assert not view.trainings


def test_the_trials_of_a_sweep_are_a_table_that_fills():
    view, search = View(), Points()
    view.begin("sweep neurons, 2 trials")
    watched = view.watch(search)
    first, second = watched.ask(), watched.ask()
    assert watched.ask() is None
    assert shown(view).count("runs or waits") == 2
    watched.tell(first, first.ended(SimpleNamespace(facts={"gain": 0.03214})))
    watched.tell(second, second.ended(None, "out of memory"))
    text = shown(view)
    assert "gain" in text
    assert "0.03214" in text
    assert "finished" in text
    assert "failed" in text
    assert len(search.told) == 2
    assert (watched.num_trials, watched.identity, watched.rungs) == (2, "points", None)


def test_a_log_gets_lines_and_no_view():
    console = Console(file=io.StringIO(), width=120)
    with live_view(console) as view:
        assert view is None
        ConsoleTracker(console).child("base").log(step=3, loss=1.25, eta_s=9.0)
    assert console.file.getvalue() == "    base  step 3  loss 1.25  eta_s 9\n"


def test_a_terminal_keeps_the_view_below_its_lines_and_ends_without_it():
    console = Console(file=io.StringIO(), width=120, force_terminal=True)
    with live_view(console) as view:
        LiveTracker(view, console).child("base").log(step=3, loss=1.25, eta_s=9.0)
        console.print("done  corpus")
    text = console.file.getvalue()
    assert "step 3" in text
    assert "done  corpus" in text
    assert text.rindex("\x1b[2K") > text.rindex("step 3")  # the view's lines were erased at the end


def test_rows_are_columns_with_numbers_to_the_right():
    console = Console(file=io.StringIO(), width=120)
    show_rows([{"language": "th", "neurons": 1234, "gain": 0.5, "winner": True, "point": {"a": 1}},
               {"language": "lo", "neurons": 5, "gain": None, "winner": False, "point": {}}], console)
    assert console.file.getvalue().splitlines() == [
        "language  neurons  gain  winner", "th          1,234   0.5       *", "lo              5"]


@pytest.mark.parametrize("rows", [[]])
def test_no_rows_are_an_empty_line_at_most(rows):
    console = Console(file=io.StringIO())
    show_rows(rows, console)
    assert not console.file.getvalue().strip()
