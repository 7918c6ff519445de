import numpy as np
import pytest

from sea_ray.errors import ConfigError
from sea_ray.evaluation.figures import Detail, EvalReport, Figure, bootstrap, proportion, wilson


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    # Newcombe 1998, table I (method 3, the score interval)
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_gives_the_published_intervals(hits, n, low, high):
    assert wilson(hits, n) == pytest.approx((low, high), abs=5e-5)


def test_wilson_is_symmetrical_and_refuses_what_is_no_proportion():
    low, high = wilson(3, 17)
    assert wilson(14, 17) == pytest.approx((1 - high, 1 - low))
    for hits, n in ((3, 2), (-1, 2), (0, 0)):
        with pytest.raises(ValueError, match="no proportion"):
            wilson(hits, n)


def test_bootstrap_of_a_mean_agrees_with_its_standard_error():
    values = np.random.default_rng(0).normal(10, 2, 400)[:, None]
    low, high = bootstrap(values, lambda sums: sums[:, 0] / 400, 4000, seed=1)
    error = 1.96 * values.std() / 20
    assert low == pytest.approx(values.mean() - error, abs=0.03)
    assert high == pytest.approx(values.mean() + error, abs=0.03)


def test_bootstrap_draws_rows_whole_and_repeats_with_its_seed():
    ratio = np.array([[2.0, 1.0], [4.0, 2.0], [6.0, 3.0]])
    assert bootstrap(ratio, lambda sums: sums[:, 0] / sums[:, 1], 200, seed=0) == (2.0, 2.0)
    values = np.arange(10.0)[:, None]
    first, same, other = (bootstrap(values, lambda sums: sums[:, 0], 200, seed=s) for s in (1, 1, 2))
    assert first == same != other


def figure(language="th", value=0.5, n=40, task="exam"):
    return Figure(
        task=task, metric="accuracy", language=language, value=value, n=n, low=0.4, high=0.6, higher_is_better=True
    )


def test_few_items_are_marked():
    assert proportion("t", "m", "en", [True] * 29, higher_is_better=True).few
    assert not proportion("t", "m", "en", [True] * 30, higher_is_better=True).few
    assert str(figure(n=12)) == "0.500 [0.400, 0.600] n=12*"


def test_report_is_the_same_after_saving_and_loading(tmp_path):
    detail = Detail(task="exam", language="th", item=0, prompt="ก", response="ข", score=1.0)
    report = EvalReport(model="base", figures=(figure(),), settings={"items": 40}, details=(detail,))
    report.save(tmp_path / "report")
    assert EvalReport.load(tmp_path / "report") == report


def test_figures_are_found_by_name_and_missing_ones_are_named():
    report = EvalReport(model="m", figures=(figure("th"), figure("vi")))
    assert report.figure("exam", "accuracy", "vi").language == "vi"
    assert list(report.of("exam", "accuracy")) == ["th", "vi"]
    with pytest.raises(ConfigError, match=r"exam/accuracy/lo was not measured; did you mean"):
        report.figure("exam", "accuracy", "lo")

