"""The commands of the README and of docs/: those of fenced blocks, and those between backticks in a sentence."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
PAGES = [REPO / "README.md", *sorted((REPO / "docs").glob("*.md"))]
CLOUD = re.compile(r"<!-- needs a cloud -->\s*$|\*Needs a cloud account:\*\s*$", re.IGNORECASE)
"""What stands before a block that cannot be run without a cloud."""
PARSED: list[list[str]] = []
"""What the command line has handed to `carried_out`."""
_BLOCK = re.compile(r"^(?P<indent> *)```(?P<kind>\w*)[^\n]*\n(?P<body>.*?)^ *```$", re.DOTALL | re.MULTILINE)
_INLINE = re.compile(r"`((?:sea-ray|make|python -m) [^`]+)`")
_ASSIGNMENT = re.compile(r"^[A-Z_]+=")


@dataclass(frozen=True)
class Command:
    """A command, and where it stands."""

    page: str
    line: int
    words: tuple[str, ...]
    """Without variables before it and a comment after it."""
    needs_cloud: bool = False
    is_inline: bool = False

    def __str__(self) -> str:
        return f"{self.page}:{self.line} {' '.join(self.words)}"


def commands(page: Path) -> list[Command]:
    """Return the commands of a page, ours and others'; of sentences ours alone."""
    text = page.read_text(encoding="utf-8")
    found = []
    for block in _BLOCK.finditer(text):
        if block["kind"] in ("", "sh", "bash", "console"):
            needs_cloud = bool(CLOUD.search(text[:block.start()]))
            start = text.count("\n", 0, block.start("body")) + 1
            for offset, line in _lines(block["body"]):
                if words := _words(line):
                    found.append(Command(page.name, start + offset, words, needs_cloud))
    prose = _BLOCK.sub(lambda block: "\n" * block[0].count("\n"), text)
    for inline in _INLINE.finditer(prose):
        if words := _words(" ".join(inline[1].split())):
            found.append(Command(page.name, prose.count("\n", 0, inline.start()) + 1, words, is_inline=True))
    return found


def _lines(body: str):
    """Yield the commands of a block, each with its line; what ends in a backslash goes on."""
    held, first = "", 0
    for number, line in enumerate(body.splitlines()):
        first = first if held else number
        held += line.removesuffix("\\")
        if not line.endswith("\\"):
            yield first, held
            held = ""


def _words(line: str) -> tuple[str, ...]:
    """Return the words of a command, or none if a line is no command: output, a tree, a picture."""
    try:
        words = shlex.split(line, comments=True)
    except ValueError:
        return ()
    while words and _ASSIGNMENT.match(words[0]):
        words = words[1:]
    if words and words[0].rpartition("/")[2] in ("sea-ray", "python", "make", "pip"):
        words[0] = words[0].rpartition("/")[2]
    return tuple(words)


def carried_out(overrides: list[str], console: object, **flags: object) -> int:
    """Stand in for a command: note what it was told."""
    PARSED.append(overrides)
    return 0
