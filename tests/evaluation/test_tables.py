import json

import pytest

from sea_ray.evaluation.figures import EvalReport, Figure
from sea_ray.evaluation.tables import FORMATS, mean_of


def figure(code, value, low, high, n=40, metric="accuracy"):
    return Figure(task="m3exam", metric=metric, language=code, value=value, n=n, low=low, high=high, higher_is_better=True)


REPORT = EvalReport(model="mine", settings={"items": 40}, figures=(
    figure("th", 0.5, 0.4, 0.7), figure("vi", 0.25, 0.1, 0.5, n=12), figure("th", 1.0, 0.8, 1.0, metric="exact_match")))


def test_distances_of_a_mean_add_in_squares():
    mean = mean_of(REPORT.figures[:2])
    assert (mean.value, mean.n) == (0.375, 52)
    assert mean.low == pytest.approx(0.375 - (0.1**2 + 0.15**2) ** 0.5 / 2)
    assert mean.high == pytest.approx(0.375 + (0.2**2 + 0.25**2) ** 0.5 / 2)


def test_every_format_has_every_figure_with_its_interval():
    assert FORMATS["text"](REPORT).splitlines() == [
        "mine",
        "task    metric       language   value     95 % interval    n",
        "m3exam  accuracy     th        0.5000  0.4000 to 0.7000   40",
        "m3exam  accuracy     vi        0.2500  0.1000 to 0.5000  12*",
        "m3exam  accuracy     mean      0.3750  0.2849 to 0.5351   52",
        "m3exam  exact_match  th        1.0000  0.8000 to 1.0000   40",
        "* fewer than 30 items: the interval says little",
    ]
    assert "| m3exam | accuracy | vi | 0.2500 | 0.1000 to 0.5000 | 12* |" in FORMATS["markdown"](REPORT).splitlines()
    assert r"m3exam & exact\_match & th & 1.0000 & 0.8000 to 1.0000 & 40 \\" in FORMATS["latex"](REPORT).splitlines()
    assert json.loads(FORMATS["json"](REPORT))["figures"][1]["high"] == 0.5
