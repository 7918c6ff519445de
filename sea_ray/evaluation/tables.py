"""Figures of several models side by side: one structure, and what makes text, Markdown, JSON, LaTeX and W&B tables of it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sea_ray.artifacts import plain
from sea_ray.evaluation.figures import FEW, EvalReport, Figure
from sea_ray.evaluation.published import Published
from sea_ray.languages import known_languages
from sea_ray.tracking import Tracker

Kind = Literal["measured", "baseline", "published"]
MEAN = "mean"
"""Last row: over the languages that are measured, each with the same weight."""
COLUMNS = ("task", "metric", "language", "model", "kind", "value", "low", "high", "n", "source")
"""Of the long form that W&B gets."""
_TEX = re.compile(r"[&%$#_{}]")
"""What a backslash makes harmless in LaTeX; task and model names hold no other letter that it reads."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One value; a published one has no interval, a mean none that these figures bear."""

    value: float
    low: float | None = None
    high: float | None = None
    n: int | None = None

    def __str__(self) -> str:
        digits = 3 if abs(self.value) <= 1 else 2
        interval = "" if self.low is None else f" [{self.low:.{digits}f}, {self.high:.{digits}f}]"
        count = "" if self.n is None else f" n={self.n}{'*' if self.n < FEW else ''}"
        return f"{self.value:.{digits}f}{interval}{count}"


@dataclass(frozen=True, kw_only=True)
class Column:
    """One model's values."""

    model: str
    kind: Kind
    cells: Mapping[str, Cell]
    """Language, or MEAN, -> value."""
    source: str = ""
    """Where a published value stands; how and of which checkpoint a measured one was taken."""

    @property
    def heading(self) -> str:
        """The model, marked if nobody measured it here."""
        return self.model if self.kind == "measured" else f"{self.model} ({self.kind})"


@dataclass(frozen=True, kw_only=True)
class Table:
    """One metric of one task: a row per language, a column per model."""

    task: str
    metric: str
    higher_is_better: bool
    rows: tuple[str, ...]
    """Languages, and MEAN."""
    columns: tuple[Column, ...]

    @property
    def title(self) -> str:
        """Task, metric and which direction is better."""
        return f"{self.task} {self.metric} {'↑' if self.higher_is_better else '↓'}"

    def grid(self) -> list[list[str]]:
        """Return heading and rows as texts."""
        return [["", *(column.heading for column in self.columns)],
                *([row, *(str(column.cells.get(row, "")) for column in self.columns)] for row in self.rows)]

    def notes(self) -> list[str]:
        """Return what a reader has to know: few items, how each model was asked, and the sources of what is published."""
        few = any(cell.n is not None and cell.n < FEW for column in self.columns for cell in column.cells.values())
        published = {column.source: None for column in self.columns if column.kind == "published"}
        return [*([f"* fewer than {FEW} items: the interval says little"] if few else []),
                *(f"{column.model}: {column.source}" for column in self.columns if column.kind == "measured" and column.source),
                *(f"published: {source}" for source in published)]


def tables(reports: Sequence[EvalReport], published: Iterable[Published] = ()) -> tuple[Table, ...]:
    """Return a table for each task and metric that was measured.

    Args:
        reports: of the models, in order.
        published: rows to show beside; those of what was not measured are left out, none goes into a mean.
    """
    keys = dict.fromkeys((figure.task, figure.metric) for report in reports for figure in report.figures)
    rows = list(published)
    return tuple(_table(task, metric, reports, [row for row in rows if (row.task, row.metric) == (task, metric)])
                 for task, metric in keys)


def _table(task: str, metric: str, reports: Sequence[EvalReport], published: Sequence[Published]) -> Table:
    measured = [(report, report.of(task, metric)) for report in reports]
    columns = [Column(model=report.model, kind="measured", source=_how(report.settings),
                      cells=_with_mean({code: _cell(figure) for code, figure in found.items()}))
               for report, found in measured if found]
    if metric == "f1" and (always := _always_refusing(task, reports[0])):
        columns.append(Column(model="always refusing", kind="baseline", cells=_with_mean(always)))
    for row in published:
        average = {} if row.average is None else {MEAN: Cell(value=row.average)}
        columns.append(Column(model=row.model, kind="published", source=row.source,
                              cells={code: Cell(value=value) for code, value in row.values.items()} | average))
    known = {code for column in columns for code in column.cells}
    figure = next(iter(next(found for _, found in measured if found).values()))
    return Table(task=task, metric=metric, higher_is_better=figure.higher_is_better, columns=tuple(columns),
                 rows=tuple(code for code in (*known_languages(), MEAN) if code in known))


def _how(settings: Mapping[str, Any]) -> str:
    """Return in words how a model was asked, as far as the settings say it."""
    said = [("asked as {}", "prompting"), ("{}", "decoding"), ("up to {} tokens", "max_new_tokens"),
            ("in dialogues {}", "dialogue_tokens"), ("checkpoint {}", "checkpoint"), ("judged by {}", "judge")]
    return ", ".join(words.format(settings[key]) for words, key in said if settings.get(key))


def _cell(figure: Figure) -> Cell:
    return Cell(value=figure.value, low=figure.low, high=figure.high, n=figure.n)


def _with_mean(cells: Mapping[str, Cell]) -> dict[str, Cell]:
    mean = sum(cell.value for cell in cells.values()) / len(cells)
    return {**cells, **({MEAN: Cell(value=mean)} if len(cells) > 1 else {})}


def _always_refusing(task: str, report: EvalReport) -> dict[str, Cell]:
    """Return the F1 of refusing everything: precision is the share of unanswerable items p, recall 1, so 2 p / (1 + p)."""
    unanswerable, answerable = report.of(task, "tpr"), report.of(task, "fpr")
    return {code: Cell(value=2 * figure.n / (2 * figure.n + answerable[code].n), n=figure.n + answerable[code].n)
            for code, figure in unanswerable.items() if code in answerable}


def as_text(table: Table) -> str:
    """Return a table for a terminal."""
    grid = table.grid()
    widths = [max(len(row[place]) for row in grid) for place in range(len(grid[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in grid]
    return "\n".join([table.title, *lines, *table.notes()])


def as_markdown(table: Table) -> str:
    """Return a table in Markdown."""
    head, *body = ([cell.replace("|", "\\|") for cell in row] for row in table.grid())
    lines = [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *body)]
    return "\n".join([f"### {table.title}", "", *lines, *(f"\n{note}" for note in table.notes())])


def as_latex(table: Table) -> str:
    """Return a table as a LaTeX tabular, under its title and above its notes."""
    head, *body = ([_TEX.sub(r"\\\g<0>", cell) for cell in row] for row in table.grid())
    title, notes = (_TEX.sub(r"\\\g<0>", text) for text in (f"{table.task} {table.metric}", "; ".join(table.notes())))
    arrow = r"$\uparrow$" if table.higher_is_better else r"$\downarrow$"
    lines = [f"% {title}", rf"{title} {arrow}", "", rf"\begin{{tabular}}{{l{'r' * len(table.columns)}}}", r"\hline",
             f"{' & '.join(head)} \\\\", r"\hline", *(f"{' & '.join(row)} \\\\" for row in body), r"\hline", r"\end{tabular}"]
    return "\n".join([*lines, *(["", notes] if notes else [])])


def as_json(table: Table) -> str:
    """Return a table as JSON."""
    return json.dumps(plain(table), ensure_ascii=False)


FORMATS: dict[str, tuple[Callable[[Table], str], str]] = {
    "text": (as_text, "\n\n"), "markdown": (as_markdown, "\n\n"), "latex": (as_latex, "\n\n"), "json": (as_json, "\n"),
}
"""Name -> how a table is written, and what stands between two."""


def written(found: Sequence[Table], form: str) -> str:
    """Return tables in one of FORMATS; of JSON it is a line for each."""
    render, between = FORMATS[form]
    return between.join(map(render, found))


def log_tables(found: Sequence[Table], tracker: Tracker) -> None:
    """Give all values to a tracker as one long table, each with what it is and where it comes from."""
    rows = [(table.task, table.metric, row, column.model, column.kind, cell.value, cell.low, cell.high, cell.n, column.source)
            for table in found for row in table.rows for column in table.columns if (cell := column.cells.get(row))]
    tracker.table("figures", COLUMNS, rows)
