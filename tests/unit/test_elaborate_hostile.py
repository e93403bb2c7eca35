"""Whatever stands in a file, elaboration ends soon: in a model, or in findings with places."""

from __future__ import annotations

import re
from pathlib import Path
from random import Random

import pytest
from effort import calls
from elaborating import CORPUS, errors, layer
from hypothesis import given
from hypothesis import strategies as st

from seqdsl.diagnostics import Diagnostic, SpecError
from seqdsl.elaborate import elaborate, load_text
from seqdsl.ir.bind import bind_sizes
from seqdsl.syntax import ast
from seqdsl.testing.corpus import passing_specs, read_directives

TOKEN = re.compile(
    r"\n[ ]*|[^\W\d]\w*|\d+(?:\.\d+)?|->|\*\*|//|<=|>=|==|!=|\.\.\.|\S|[ ]+"
)
NAME = re.compile(r"[^\W\d]\w*")
WORDS = frozenset(
    [
        "layer",
        "def",
        "input",
        "output",
        "state",
        "param",
        "dim",
        "repeat",
        "in",
        "while",
        "if",
        "else",
        "and",
        "or",
        "not",
        "as",
        "import",
        "extern",
        "per",
        "frozen",
        "true",
        "false",
        "float",
        "int",
        "bool",
        "complex",
    ]
)
PUT_IN = [
    "({0} + 1)",
    "{0}[t-1]",
    "{0}[s]",
    "-{0}",
    "({0} > 0)",
    "stack[q]({0}, {0})",
    "int({0})",
    "linear({0}, 3)",
    "{0}.(D -> J)",
    "sum[D]({0})",
    "{0}[D = 0:2 as J]",
    "concat[D as D]({0}, {0})",
    "grad({0}, {1})",
    "{0}.first",
    "{0}[l-1]",
    "{0}[l = 1]",
    "{0}[t = last]",
    "index[{0}]",
    "top[D]({0}, 2)",
    "top[{0} > 0]({0}, 2)",
    "SwiGLU({0}, F = 2)",
    "attend({0}, {0}, {1})",
    "cumsum[t]({0})",
    "conv({0}, width = 2)",
    "roll[D]({0}, 2.5)",
    "complex({0}, 1)",
    "embed({0}, 4, 2)",
    "param([{0}])",
    "normal[D](0, {0})",
    "({0} if {1} > 1 else {1})",
    "gather[D]({0}, {1})",
]
NUMBERS = ["0", "1", "2", "7", "-1", "2.5", "1e30", "99999999999"]
FILES = [(p, p.read_text("utf-8")) for p in passing_specs(CORPUS)]


def changed(rng: Random, text: str) -> str:
    """A spec with one to three places changed: a name, a number, an operand, a line."""
    tokens = TOKEN.findall(re.sub(r"#.*", "", text))
    for _ in range(rng.randint(1, 3)):
        names = [i for i, t in enumerate(tokens) if NAME.fullmatch(t)]
        names = [i for i in names if tokens[i] not in WORDS]
        numbers = [i for i, t in enumerate(tokens) if t[0].isdigit()]
        if not names:
            break
        other = tokens[rng.choice(names)]
        match rng.randrange(7):
            case 0 | 1:
                tokens[rng.choice(names)] = rng.choice([other, "t", "s", "inf", "last"])
            case 2 if numbers:
                tokens[rng.choice(numbers)] = rng.choice([*NUMBERS, other])
            case 3 | 4:
                i = rng.choice(names)
                tokens[i] = rng.choice(PUT_IN).format(tokens[i], other)
            case 5:
                i, j = rng.randrange(len(tokens)), rng.randrange(len(tokens))
                tokens[i], tokens[j] = tokens[j], tokens[i]
            case _:
                tokens = TOKEN.findall(_moved(rng, "".join(tokens)))
    return "".join(tokens)


def _moved(rng: Random, text: str) -> str:
    lines = text.split("\n")
    i, j = rng.randrange(len(lines)), rng.randrange(len(lines))
    match rng.randrange(3):
        case 0:
            lines.pop(i)
        case 1:
            lines.insert(j, lines[i])
        case _:
            lines[i], lines[j] = lines[j], lines[i]
    return "\n".join(lines)


def check_places(found: tuple[Diagnostic, ...], text: str) -> None:
    """Every finding has a place inside a text."""
    assert found
    for diagnostic in found:
        for span in (diagnostic.span, *(label.span for label in diagnostic.labels)):
            assert span is not None, diagnostic
            assert 0 <= span.start < span.end <= len(span.source.text) + 1, diagnostic
            assert span.source.text == text or span.source.name != "<text>"


def try_layer(text: str, folder: Path, decl: ast.LayerDecl, known: bool) -> None:
    """Elaborate and bind one layer; what goes wrong must be a `SpecError`."""
    program = load_text(text, folder=folder)
    options = read_directives(known_text(text) if known else "").options_for(decl)
    try:
        model = elaborate(program, decl.name, options).model
    except SpecError as error:
        check_places(error.diagnostics, text)
        return
    names = {*model.dims}
    for value in (*model.params, *model.inputs, *model.states):
        assert set(value.type.dims) <= names
        assert len(set(value.type.dims)) == len(value.type.dims)
    try:
        bind_sizes(model, options)
    except SpecError as error:
        assert error.diagnostics


def known_text(text: str) -> str:
    """The lines of a file that say how to run it."""
    return "\n".join(line for line in text.split("\n") if line.startswith("#! opt"))


@given(st.sampled_from(FILES), st.randoms(use_true_random=False), st.booleans())
def test_changed_specs_end_in_a_model_or_in_findings(
    file: tuple[Path, str], rng: Random, known: bool
) -> None:
    path, text = file
    for _ in range(4):
        mutant = known_text(text) + "\n" + changed(rng, text)
        try:
            layers = load_text(mutant, folder=path.parent).spec.layers
        except SpecError as error:
            check_places(error.diagnostics, mutant)
            continue
        for decl in layers:
            try_layer(mutant, path.parent, decl, known)


def chained(first: str, line: str, last: str, count: int) -> str:
    """Lines of which each reads the one before."""
    lines = [line.format(i, i - 1) for i in range(1, count)]
    return "\n".join([first, *lines, last.format(count - 1)])


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (
            layer(
                chained(
                    "input x: [D]\ndim d0 = D",
                    "dim d{0} = d{1} + d{1}",
                    "output linear(x, d{0})",
                    60,
                ),
                "D",
            ),
            "E0217",
        ),
        (
            layer(
                chained(
                    "input x0: [d0]",
                    "x{0} = concat[d{1} as d{0}](x{1}, x{1})",
                    "output x{0}",
                    60,
                ),
                "d0",
            ),
            "E0217",
        ),
        (
            chained(
                "def f0(x):\n    x + 1",
                "def f{0}(x):\n    f{1}(f{1}(x))",
                "layer A(D):\n    input x: [D]\n    output f{0}(x)\n",
                40,
            ),
            "E0115",
        ),
        (
            chained(
                "def f0(x):\n    x",
                "def f{0}(x):\n    f{1}(x) + 1",
                "layer A(D):\n    input x: [D]\n    output f{0}(x)\n",
                500,
            ),
            "E0115",
        ),
        (
            chained(
                "layer L0(D):\n    input x: [D]\n    output linear(x, D)",
                "layer L{0}(D):\n    input x: [D]\n    output L{1}(L{1}(x))",
                "layer A(D):\n    input x: [D]\n    output L{0}(x)\n",
                40,
            ),
            "E0115",
        ),
        (
            chained(
                "layer L0(D):\n    input x: [D]\n    output x",
                "layer L{0}(D):\n    input x: [D]\n    output L{1}(x)",
                "layer A(D):\n    input x: [D]\n    output L{0}(x)\n",
                500,
            ),
            "E0115",
        ),
        (layer("input x: [D]\noutput x * 2 ** 2 ** 2 ** 2 ** 9", "D"), "E0217"),
    ],
)
def test_what_would_never_end_is_refused_at_once(text: str, code: str) -> None:
    found: set[str] = set()
    count = calls(lambda: found.update(d.code for d in errors(text)))
    assert code in found
    assert count < 10_000_000


def test_deep_expressions_in_deep_calls_are_fine() -> None:
    deep = "tanh(" * 90 + "x" + ")" * 90
    defs = [f"def f0(x):\n    {deep}"]
    defs += [
        f"def f{i}(x):\n    {deep.replace('x', f'f{i - 1}(x)')}" for i in range(1, 9)
    ]
    text = "\n".join([*defs, layer("input x: [D]\noutput f8(x)", "D")])
    assert elaborate(load_text(text), "A").model.outputs
