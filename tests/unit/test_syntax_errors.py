"""Syntax errors: their pages, their codes and places, and that nothing else is raised."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from seqdsl.diagnostics import Diagnostic, SpecError
from seqdsl.source import Source
from seqdsl.syntax.codes import SYNTAX_CODES
from seqdsl.syntax.format import format_spec
from seqdsl.syntax.parse import parse
from seqdsl.syntax.read import read
from seqdsl.syntax.recover import MOST
from seqdsl.testing.asts import specs

ROOT = Path(__file__).parents[2]
BAD = [
    path
    for path in sorted((ROOT / "tests/language/bad").glob("*.seq"))
    if "#! E00" in path.read_text("utf-8")
]
EXPECTED = re.compile(r"#! (E00\d\d) (\d+):(\d+)")


def errors(text: str) -> tuple[Diagnostic, ...]:
    """The diagnostics of a text; none if it parses."""
    try:
        parse(Source("a.seq", text))
    except SpecError as error:
        return error.diagnostics
    return ()


def codes(text: str) -> list[str]:
    return [problem.code for problem in errors(text)]


def block(page: str, mark: str) -> str:
    found = re.search(rf"^```{mark}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert found, f"no block ```{mark}"
    return found[1]


@pytest.mark.parametrize("code", SYNTAX_CODES)
def test_the_page_of_a_code(code: str) -> None:
    page = (ROOT / f"docs/errors/{code}.md").read_text("utf-8")
    assert page.startswith(f"# {code}: {SYNTAX_CODES[code]}\n\n")
    assert set(codes(block(page, "seq wrong"))) == {code}
    fixed = block(page, "seq")
    assert format_spec(parse(Source("fixed.seq", fixed))) == fixed


def test_every_page_has_its_code() -> None:
    pages = {path.stem for path in (ROOT / "docs/errors").glob("E00[0-4]*.md")}
    assert pages == set(SYNTAX_CODES)


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_a_bad_file_has_the_errors_it_announces(path: Path) -> None:
    text = path.read_text("utf-8")
    announced = [
        (code, int(line), int(column)) for code, line, column in EXPECTED.findall(text)
    ]
    found = [
        (problem.code, problem.span.line, problem.span.column)
        for problem in errors(text)
        if problem.span is not None
    ]
    assert found == announced


def test_every_code_is_announced_by_a_bad_file() -> None:
    announced = {
        code for path in BAD for code, *_ in EXPECTED.findall(path.read_text("utf-8"))
    }
    assert announced == set(SYNTAX_CODES)


@pytest.mark.parametrize(
    ("text", "code", "marked", "message"),
    [
        ("layer A(D", "E0003", "(", "this `(` is never closed"),
        ("layer A(D)\n    1", "E0020", ")", "header of this layer is missing"),
        ("def f():\n    state: 3", "E0026", ":", "no name after `state`"),
        ("def f():\n    a = 'x'", "E0002", "'", "does not quote text"),
        ("def f():\n    a = b = c", "E0031", "=", "second `=`"),
        ("def f():\n    param W: H", "E0023", "H", "a shape such as `[H, K]`"),
        ("def f():\n    a = 2x", "E0040", "x", "between `2` and `x`"),
        ("def f():\n    h[t] = 2", "E0032", "h[t]", "left of `=` is not a name"),
    ],
)
def test_messages(text: str, code: str, marked: str, message: str) -> None:
    (problem,) = errors(text)
    assert problem.span is not None
    assert (problem.code, problem.span.text) == (code, marked)
    assert message in problem.message


def test_a_bracket_closed_by_the_wrong_one_points_at_both() -> None:
    (problem,) = errors("def f(x):\n    g([x)\n")
    assert problem.code == "E0003"
    (problem,) = errors("def f(x):\n    (x]\n")
    assert problem.code == "E0004"
    assert [label.span.text for label in problem.labels] == ["("]


@pytest.mark.parametrize(
    "line",
    ["x = (1", "x = 1)", "x = = 1", "x = 'a'", "x = 2 y", "x = 1 if 2", "return x"],
)
def test_one_mistake_gives_one_error(line: str) -> None:
    rest = "    y = 2\n    repeat n in 3:\n        z = y\n    output z\n"
    text = f"layer A(D):\n    input x: [D]\n    {line}\n{rest}\nlayer B(D):\n{rest}"
    assert len(errors(text)) == 1


def test_independent_mistakes_are_all_reported() -> None:
    lines = ["x = (1", "ok = 1", "x = 1)", "x = = 1", "ok = (\n  1\n)", "x = 2 y"]
    text = "def f():\n" + "".join(f"    {line}\n" for line in lines)
    assert codes(text) == ["E0003", "E0004", "E0030", "E0040"]


def test_at_most_a_hundred_errors_are_reported() -> None:
    assert len(errors("def f():\n" + "    a = = 1\n" * 4000)) == MOST
    assert len(errors("def f():\n" + "    a = (1\n" * 4000)) == MOST


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    for content in (b"# Andr\xe9\nlayer", b"def f():\n    \x00", "é".encode("utf-16")):
        (tmp_path / "a.seq").write_bytes(content)
        with pytest.raises(SpecError) as caught:
            parse(read(tmp_path / "a.seq"))
        assert [problem.code for problem in caught.value.diagnostics] == ["E0006"]


@pytest.mark.parametrize(
    "text",
    [
        "x = " + "(" * 5000 + "1" + ")" * 5000,
        "x = " + "[" * 5000 + "1" + "]" * 5000,
        "x = " + "f(" * 5000 + "1" + ")" * 5000,
        "x = " + "-" * 5000 + "1",
        "x = " + "1 + " * 5000 + "1",
        "x = " + "1 ** " * 5000 + "1",
        "x = a" + "[t]" * 5000,
        "x = " + "1 if a else " * 5000 + "1",
        "param W: [D] = " + "-" * 5000 + "f(1) as w",
        "".join("repeat n in N:\n" + " " * (5 + i) for i in range(500)) + "x = 1",
    ],
    ids=range(10),
)
def test_deep_nesting_is_an_error_and_no_crash(text: str) -> None:
    text = f"layer A(D):\n    {text}\n"
    assert codes(text) in ([], ["E0045"])
    broken = codes(text + "    y = =\n")
    assert broken in (["E0030"], ["E0045", "E0030"])


def test_nesting_to_the_limit_is_fine() -> None:
    text = "def f(x):\n    " + "g(" * 95 + "x" + ")" * 95 + "\n"
    spec = parse(Source("a.seq", text))
    assert parse(Source("b.seq", format_spec(spec))) == spec


fuzzing = settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
_pieces = st.sampled_from(
    [*"()[]:,.=~+-*/%<>!^@#\"'\n\t ;{}\\\0\ufeff\ufffd\r²", "\n    ", "\n        "]
    + ["layer ", "def ", "repeat ", "param ", "state ", "as ", "if ", "else ", "in "]
    + [
        "output ",
        "import ",
        "extern ",
        "**",
        "->",
        "...",
        "==",
        "1",
        ".5",
        "x",
        "h[t-1]",
    ]
)


def judged(text: str) -> None:
    """Parse a text; whatever is wrong with it must be said properly."""
    for problem in errors(text):
        assert problem.code in SYNTAX_CODES
        assert problem.span is not None and problem.help
        assert 0 <= problem.span.start <= problem.span.end <= len(text)
        said = " ".join([problem.message, *problem.help])
        shown = re.sub(r"`[^`]*`", "", said)
        assert not re.search(r"[A-Z]{3}|lark|[Tt]oken|__", shown.replace("UTF-8", ""))
        assert problem.message[0].islower() or not problem.message[0].isalpha()


@fuzzing
@given(st.text() | st.lists(_pieces).map("".join))
def test_any_text_is_a_spec_or_has_errors(text: str) -> None:
    judged(text)
    judged(f"layer A(D):\n    x = {text}\n")


@fuzzing
@given(specs.map(format_spec), st.data())
def test_any_damaged_spec_is_a_spec_or_has_errors(
    text: str, data: st.DataObject
) -> None:
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(text)))
        end = min(len(text), start + data.draw(st.integers(0, 3)))
        text = text[:start] + data.draw(_pieces | st.just("")) + text[end:]
    judged(text)
