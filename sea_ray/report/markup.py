"""HTML and SVG by construction: elements close themselves and text is escaped unless it is markup already."""

from __future__ import annotations

import html
from collections.abc import Iterable

_VOID = frozenset({"meta", "link", "br", "wbr"})
_CONTROL = {code: 0x2400 + code for code in range(32) if chr(code) not in "\t\n"} | {127: 0x2421}
"""Control characters (a young model writes them) have no place in HTML; their Unicode pictures have."""


class Html(str):
    """Text that is markup already."""

    __slots__ = ()


Child = str | None
"""Html goes in as it is, str is escaped, None is nothing."""


def escape(text: str) -> Html:
    """Return text as markup; Html is returned as it is."""
    return text if isinstance(text, Html) else Html(html.escape(text.translate(_CONTROL)))


def join(parts: Iterable[Child], separator: str = "") -> Html:
    """Return parts one after another, escaped where they are not markup."""
    return Html(str(escape(separator)).join(escape(part) for part in parts if part is not None))


def element(tag: str, /, *children: Child, **attributes: str | float | bool | None) -> Html:
    """Return an element.

    Args:
        tag: element name.
        children: text and markup.
        attributes: `class_` is written class, `stroke_width` stroke-width; None and False are left out, True stands
            alone; numbers are rounded to two decimals.
    """
    written = "".join(_attribute(name, value) for name, value in attributes.items())
    if tag in _VOID:
        return Html(f"<{tag}{written}>")
    return Html(f"<{tag}{written}>{join(children)}</{tag}>")


def _attribute(name: str, value: str | float | bool | None) -> str:
    if value is None or value is False:
        return ""
    name = name.rstrip("_").replace("_", "-")
    if value is True:
        return f" {name}"
    if isinstance(value, float):
        value = f"{value:.2f}".rstrip("0").rstrip(".")
    return f' {name}="{html.escape(str(value))}"'


def table(head: Iterable[Child], rows: Iterable[Iterable[Html] | Html], class_: str = "", caption: Child = None) -> Html:
    """Return a table that scrolls sideways in a narrow window.

    Args:
        head: texts of the heading cells; `number_heading` makes those of numbers.
        rows: cells (`<td>` or `<th>` elements) of each row, or the row as one element.
        class_: of the table.
        caption: said below it.
    """
    lines = [row if isinstance(row, Html) else element("tr", *row) for row in rows]
    columns = [text if isinstance(text, Html) else element("th", text, scope="col") for text in head]
    return element(
        "div",
        element("table",
                None if caption is None else element("caption", caption),
                element("thead", element("tr", *columns)),
                element("tbody", *lines), class_=class_ or None),
        class_="scroll")


def cell(text: Child, class_: str | None = None) -> Html:
    """Return a cell of text."""
    return element("td", text, class_=class_)


def number(text: Child) -> Html:
    """Return a cell whose text is set as a number, flush right."""
    return element("td", text, class_="num")


def number_heading(text: Child, class_: str = "num") -> Html:
    """Return the heading cell of a column of numbers."""
    return element("th", text, scope="col", class_=class_)


def heading(text: Child, small: Child = None) -> Html:
    """Return the cell that names a row, with a quieter second text."""
    return element("th", text, None if small is None else element("small", small), scope="row")


def details(summary: Child, *body: Child, is_open: bool = False) -> Html:
    """Return something that opens on a click."""
    return element("details", element("summary", summary), *body, open=is_open)


def paragraph(text: Child, class_: str | None = None) -> Html:
    """Return a paragraph, nothing for an empty text."""
    return element("p", text, class_=class_) if text else Html()
