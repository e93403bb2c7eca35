"""Diagnostics as people see them."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqdsl.diagnostics import Diagnostic, Label
from seqdsl.report import plain, show, to_json
from seqdsl.source import BUILTIN, Source, Span
from seqdsl.terminal import cells

GRU = """\
layer GRU(D, H):
    input x: [D]
    state h: [H] = 0
    r = sigmoid(linear(x, H) + linear(h[t-1], H))
    z = sigmoid(linear(x, H) + linear(h[t-1], H))
    n = tanh(linear(x, H) + r * linear(h[t-1], H))
    h = (1 - z) * n + z * h[t-1]
    output h
"""


def span(text: str, part: str, name: str = "gru.seq") -> Span:
    start = text.index(part)
    return Span(Source(name, text), start, start + len(part))


def drawn(text: str, part: str, *labels: Label) -> list[str]:
    """The lines drawn for a mark under `part`, without the header and the footer."""
    return plain(Diagnostic("E0001", "m", span(text, part), labels)).splitlines()[1:-1]


def test_the_layout_of_a_diagnostic() -> None:
    source = Source("gru.seq", GRU)

    def at(part: str) -> Span:
        start = GRU.index(part)
        return Span(source, start, start + len(part))

    d = Diagnostic(
        "E0301",
        "this recurrence cannot run in parallel",
        at("tanh"),
        (
            Label(at("tanh"), "`h[t-1]` goes through tanh here"),
            Label(at("(1 - z) * n + z * h[t-1]"), "so this is not affine in `h`"),
            Label(Span(BUILTIN, 0, 0), "z (line 5) and r (line 4) read h[t-1]"),
        ),
        ("drop h[t-1] from r, z and n and this is a minGRU, which scans",),
    )
    assert plain(d) == (
        "E0301  this recurrence cannot run in parallel                        "
        "gru.seq:6:9\n"
        "    6 |     n = tanh(linear(x, H) + r * linear(h[t-1], H))\n"
        "      |         ^^^^ `h[t-1]` goes through tanh here\n"
        "    7 |     h = (1 - z) * n + z * h[t-1]\n"
        "      |         ------------------------ so this is not affine in `h`\n"
        "   also  z (line 5) and r (line 4) read h[t-1]\n"
        "   help  drop h[t-1] from r, z and n and this is a minGRU, which scans\n"
        "   more  seqdsl explain E0301"
    )
    assert d.short == "gru.seq:6:9: E0301 this recurrence cannot run in parallel"


def test_lines_between_are_left_out() -> None:
    source = Source("a.seq", GRU)
    first, last = Span(source, 0, 5), Span(source, len(GRU) - 2, len(GRU) - 1)
    lines = plain(Diagnostic("E0001", "m", last, (Label(first, "x"),))).splitlines()
    assert lines[1:4] == ["    1 | layer GRU(D, H):", "      | ----- x", "  ..."]


def test_a_place_in_another_file_is_named() -> None:
    other = Label(span("abc", "b", "other.seq"), "first defined here")
    assert drawn("x y", "y", other)[-1] == "   also  first defined here (other.seq:1)"


def test_a_tab_takes_the_columns_that_it_shows() -> None:
    assert drawn("\tx = y", "y") == ["    1 |     x = y", "      |         ^"]


def test_wide_characters_take_two_columns() -> None:
    assert drawn("状態 + y", "y") == ["    1 | 状態 + y", "      |        ^"]


def test_control_characters_are_shown_not_sent() -> None:
    lines = drawn("a\x1b[31m + y\u202e", "y")
    assert lines == ["    1 | a␛[31m + y<U+202E>", "      |          ^"]


def test_a_long_line_is_cut_around_the_mark() -> None:
    text = "x + " * 100 + "wrong" + " + y" * 100
    source, marks = drawn(text, "wrong")
    assert cells(source) <= 80
    start = marks.index("^")
    assert source[start : start + 5] == "wrong"
    assert source[8] == source[-1] == "…"


def test_a_span_over_lines_is_marked_on_its_first() -> None:
    lines = drawn("ab (c\n d) e", "(c\n d)")
    assert lines == ["    1 | ab (c", "      |    ^^ (to line 2)"]


def test_the_end_of_a_file_can_be_marked() -> None:
    source = Source("a.seq", "x\n")
    text = plain(Diagnostic("E0001", "m", Span(source, 2, 2)))
    assert text.splitlines()[1:3] == ["    2 |", "      | ^"]


@given(st.text(max_size=60), st.data())
def test_any_span_of_any_text_can_be_drawn(text: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    d = Diagnostic("W0001", text, Span(Source(text, text), start, end), (), (text,))
    header, source, marks, *rest = plain(d).split("\n")
    assert header.startswith("W0001  ")
    assert source.lstrip().partition(" |")[0] == str(d.span.line if d.span else 0)
    assert "^" in marks
    assert [line[:7] for line in rest] == ["   help", "   more"]
    json.dumps(to_json(d))


def test_json_has_every_place() -> None:
    d = Diagnostic(
        "W0101", "m", span(GRU, "tanh"), (Label(span(GRU, "r"), "x"),), ("h",)
    )
    found = to_json(d)
    assert found["severity"] == "warning"
    assert (found["line"], found["column"], found["end_column"]) == (6, 9, 13)
    assert found["labels"] == [
        {
            "file": "gru.seq",
            "line": 1,
            "column": 5,
            "end_line": 1,
            "end_column": 6,
            "text": "x",
        }
    ]
    assert to_json(Diagnostic("E0102", "m"))["file"] is None


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("no_color", "colored"), [("", True), ("1", False)])
def test_color_only_where_it_is_wanted(
    monkeypatch: pytest.MonkeyPatch, no_color: str, colored: bool
) -> None:
    monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setenv("TERM", "xterm-256color")
    d = Diagnostic("E0001", "[bold]m[/bold]", span(GRU, "tanh"))
    terminal, pipe = Terminal(), io.StringIO()
    show([d], file=terminal)
    show([d], file=pipe)
    assert ("\x1b[" in terminal.getvalue()) == colored
    assert "\x1b[" not in pipe.getvalue()
    assert "[bold]m[/bold]" in pipe.getvalue()
