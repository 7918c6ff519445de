"""A pass over one new token of each row, recorded once on a GPU and replayed without Python.

At a few dozen rows a step of a 0.5B or 7B model waits for Python to start its kernels, not for them. A CUDA graph starts them all
at once; it needs the same places in memory every time, so tokens and lengths are copied into its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

Pass = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""From tokens [B, 1] and how many tokens each row has, [B], to last hidden states [B, 1, d_model]; never waits for the GPU."""


class StepGraph:
    """One step over a fixed number of rows."""

    def __init__(self, run: Pass, num_rows: int, device: torch.device) -> None:
        """Args: run: the pass, over the same places in memory each time; num_rows: of it; device: off a GPU it just runs."""
        self._run = run
        self._ids_B1 = torch.zeros(num_rows, 1, dtype=torch.long, device=device)
        self._starts_B = torch.zeros(num_rows, dtype=torch.long, device=device)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._hidden_B1D = torch.empty(0)

    def __call__(self, tokens: Sequence[int], starts: Sequence[int]) -> torch.Tensor:
        """Return the last hidden states, [B, 1, d_model]; on a GPU they hold until the next step.

        Args:
            tokens: of each row.
            starts: tokens that each row has so far.
        """
        self._ids_B1[:, 0] = torch.tensor(tokens)
        self._starts_B[:] = torch.tensor(starts)
        if self._ids_B1.device.type != "cuda":
            return self._run(self._ids_B1, self._starts_B)
        if self._graph is None:
            self._record()
        assert self._graph is not None
        self._graph.replay()
        return self._hidden_B1D

    def _record(self) -> None:
        """Record the pass; it runs before, so that libraries choose their kernels, and writes what its replay writes."""
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(2):
                self._run(self._ids_B1, self._starts_B)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            self._hidden_B1D = self._run(self._ids_B1, self._starts_B)
        self._graph = graph
