"""Scatter plots: intervals are bars through their point, within the picture."""

import re

from sea_ray.report.scatter import Trial, scatter


def drawn(*, with_intervals):
    ends = {"x_interval": (0.1, 0.9), "y_interval": (0.4, 0.6)} if with_intervals else {}
    trials = [Trial(name=name, x=0.5, y=0.5, keeps_limits=True, is_winner=False, title=name, **more)
              for name, more in (("a", ends), ("b", {}))]
    return re.findall(r'<line x1="([\d.]+)" y1="([\d.]+)" x2="([\d.]+)" y2="([\d.]+)" class="interval',
                      str(scatter("p", trials, x_name="x", y_name="y")))


def test_intervals_are_bars_through_their_point_and_the_axes_hold_their_ends():
    (left, y, right, same_y), (x, low, same_x, high) = ([float(one) for one in bar] for bar in drawn(with_intervals=True))
    assert (y, x) == (same_y, same_x)
    assert 0 < left < x < right < 560
    assert 0 < high < y < low < 330
    assert abs((left + right) / 2 - x) < 0.01


def test_without_intervals_there_is_no_bar():
    assert not drawn(with_intervals=False)
