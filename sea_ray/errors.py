"""Errors by who must act on them. Messages state the found value, the rule and the remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SeaRayError(Exception):
    """Root of all errors that the service raises on purpose; the command line prints them without a traceback."""

    exit_code = 1


class ConfigError(SeaRayError):
    """The experiment's author must act: a key or value of the configuration is wrong."""

    exit_code = 2

    def __init__(self, path: str, message: str) -> None:
        """Args: path: dotted path of the key ("" for the whole); message: found value, rule, remedy."""
        super().__init__(f"{path}: {message}" if path else message)
        self.path = path
        self.message = message

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return type(self), (self.path, self.message)


class DataError(SeaRayError):
    """The owner of the data must act: a file, row or document is wrong."""

    exit_code = 3

    def __init__(self, message: str, file: object = None, line: int | None = None) -> None:
        """Args: message: what is wrong and the remedy; file, line: where, if it has a place."""
        place = "" if file is None else f"{file}: " if line is None else f"{file}:{line}: "
        super().__init__(place + message)
        self.message, self.file, self.line = message, file, line

    def __reduce__(self) -> tuple[type, tuple[str, object, int | None]]:
        return type(self), (self.message, self.file, self.line)


class MachineError(SeaRayError):
    """The operator must act: memory, disk, network, accelerator or a lost process."""

    exit_code = 4


class BudgetError(SeaRayError):
    """Whoever pays must act: a limit of time or money is reached."""

    exit_code = 5


def nearest(name: str, valid: Iterable[str]) -> str:
    """Return "; did you mean ...?" for the valid names closest to `name`, or the list of them all."""
    names = sorted(map(str, valid))
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(close)}?" if close else f"; valid: {', '.join(names)}"
