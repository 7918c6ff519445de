"""What a training costs is counted from real tensors."""

import pytest
import torch

from sea_ray.training.footprint import held_bytes, readable_bytes


def test_memory_that_tensors_share_counts_once_and_whole():
    whole = torch.zeros(10)
    assert held_bytes([whole[:2], whole[5:], None, 3.0]) == 40
    assert held_bytes([whole, torch.zeros(3, dtype=torch.float64)]) == 64


def test_memory_that_belongs_to_something_else_does_not_count():
    whole, other = torch.zeros(10), torch.zeros(2)
    assert held_bytes([whole[3:], other], besides=[whole]) == 8


@pytest.mark.parametrize(("size", "text"), [
    (0, "0 B"), (99, "99 B"), (120, "0.12 kB"), (530_000, "0.53 MB"), (122_000_000_000, "122.00 GB")])
def test_a_size_is_written_in_a_unit_that_it_fills(size, text):
    assert readable_bytes(size) == text
