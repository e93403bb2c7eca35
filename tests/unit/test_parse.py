"""The parser: each construct as a tree, with exact spans."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

import pytest
from effort import calls
from hypothesis import HealthCheck, given, settings

from seqdsl.diagnostics import SpecError
from seqdsl.source import Source, Span
from seqdsl.syntax import ast
from seqdsl.syntax.format import format_spec
from seqdsl.syntax.parse import parse, parse_expression
from seqdsl.testing.asts import specs

GRU = """\
# A gated recurrent unit.
import std.gla as g

layer GRU[K](D, H = D/2):  # one state
    input x: [D]
    input c: int [S, D as O] per batch
    state h: [H] = 0
    param W: [H, ...] ~ normal(0, 0.02) frozen as a.b
    dim J = H
    repeat n in 4 while x < 0.99:
        y: [H] = g.GLA(x)[n = N]
    a, b = f[s <= t](x, width = 4) as key
    output h
    output z = x[K = 0:4:2 as J].(H -> J, D -> [a, b])

extern step(x: [D], n: int) -> float [H]

def attend(q: [K], window = inf):
    -q ** 2 if not window == inf else [K, 2*K]
"""


def spec(text: str) -> ast.Spec:
    return parse(Source("a.seq", text))


def statement(text: str) -> ast.Stmt:
    (layer,) = spec(f"layer A(D):\n    {text}\n").layers
    return layer.body[0]


def nodes(node: ast.Ast) -> Iterator[ast.Ast]:
    yield node
    for field in fields(node):
        value = getattr(node, field.name)
        for child in value if isinstance(value, tuple) else (value,):  # pyright: ignore
            if isinstance(child, ast.Ast):
                yield from nodes(child)


def name(id: str) -> ast.Name:
    return ast.Name(id=id)


def number(value: float) -> ast.Number:
    return ast.Number(value=value, text="")


def test_declarations_of_a_file_in_order() -> None:
    kinds = [type(declaration) for declaration in spec(GRU).declarations]
    assert kinds == [ast.Import, ast.LayerDecl, ast.ExternDecl, ast.DefDecl]


def test_layer_header() -> None:
    (layer,) = spec(GRU).layers
    assert (layer.name, layer.brackets) == ("GRU", (name("K"),))
    half = ast.Binary(op="/", left=name("D"), right=number(2))
    assert layer.options == (
        ast.OptionDecl(name="D", default=None),
        ast.OptionDecl(name="H", default=half),
    )
    assert layer.header.text == "layer GRU[K](D, H = D/2):"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("import std.gla", ast.Import(path=("std", "gla"))),
        ("import std.gla as g", ast.Import(path=("std", "gla"), alias="g")),
        ("import a: B, c", ast.Import(path=("a",), names=(name("B"), name("c")))),
    ],
)
def test_imports(text: str, expected: ast.Import) -> None:
    assert spec(text).declarations == (expected,)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("t-1", ast.Item(expr=ast.Binary(op="-", left=name("t"), right=number(1)))),
        ("n = N", ast.Item(axis="n", expr=name("N"))),
        ("H as M", ast.Item(expr=name("H"), rename="M")),
        (
            "K = 0:4 as J",
            ast.Item(
                axis="K",
                slice=ast.Slice(start=number(0), stop=number(4), step=None),
                rename="J",
            ),
        ),
        (
            "K = ::2 as J",
            ast.Item(
                axis="K",
                slice=ast.Slice(start=None, stop=None, step=number(2)),
                rename="J",
            ),
        ),
    ],
)
def test_index_items(text: str, expected: ast.Item) -> None:
    assert parse_expression(f"x[{text}]") == ast.Index(
        value=name("x"), items=(expected,)
    )


def test_call_with_brackets_keywords_and_key() -> None:
    assert parse_expression("g.f[K](x, width = 4) as a.b") == ast.Call(
        func=ast.Member(value=name("g"), name="f"),
        brackets=(ast.Item(expr=name("K")),),
        args=(name("x"),),
        keywords=(ast.Keyword(name="width", value=number(4)),),
        key="a.b",
    )


def test_redim_sides_are_lists_of_dims() -> None:
    assert parse_expression("x.(H -> J, D -> [a, b], [c] -> d)") == ast.Redim(
        value=name("x"),
        maps=(
            ast.DimMap(source=(name("H"),), target=(name("J"),)),
            ast.DimMap(source=(name("D"),), target=(name("a"), name("b"))),
            ast.DimMap(source=(name("c"),), target=(name("d"),)),
        ),
    )


@pytest.mark.parametrize(
    ("text", "grouped"),
    [
        ("a + b * c", "a + (b * c)"),
        ("a - b - c", "(a - b) - c"),
        ("a / b // c % d", "((a / b) // c) % d"),
        ("a ** b ** c", "a ** (b ** c)"),
        ("-a ** -b", "-(a ** (-b))"),
        ("not a == b and c or d", "((not (a == b)) and c) or d"),
        ("a if b else c if d else e", "a if b else (c if d else e)"),
        ("a + b < c * d", "(a + b) < (c * d)"),
        ("-a[t].b", "-((a[t]).b)"),
    ],
)
def test_precedence(text: str, grouped: str) -> None:
    assert parse_expression(text) == parse_expression(grouped)


def test_chained_comparison_is_one_node() -> None:
    assert parse_expression("0 <= a < b") == ast.Compare(
        ops=("<=", "<"), operands=(number(0), name("a"), name("b"))
    )


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", 1), ("1_000", 1000), ("1.0", 1.0), (".5", 0.5), ("1e-6", 1e-6)],
)
def test_numbers_keep_their_spelling(text: str, value: float) -> None:
    expr = parse_expression(text)
    assert isinstance(expr, ast.Number)
    assert (expr.value, type(expr.value), expr.text) == (value, type(value), text)


@pytest.mark.parametrize(
    ("text", "initial", "key"),
    [
        ("~ normal(0, 1) as w", "normal(0, 1)", "w"),
        ("= 2 * f(0) as a.b", "2 * f(0)", "a.b"),
        ("= (f(0) as w)", "(f(0) as w)", None),
        ("= (f(0) as v) as w", "(f(0) as v)", "w"),
    ],
)
def test_trailing_key_belongs_to_the_param(
    text: str, initial: str, key: str | None
) -> None:
    found = statement(f"param W: [D] {text}")
    assert isinstance(found, ast.ParamStmt)
    assert found.initial == parse_expression(initial)
    assert (found.key, found.frozen) == (key, False)


def test_trailing_as_belongs_to_the_item() -> None:
    assert parse_expression("x[f(K) as J]") == ast.Index(
        value=name("x"),
        items=(ast.Item(expr=parse_expression("f(K)"), rename="J"),),
    )


@pytest.mark.parametrize("text", ["param", "param()", "param([K], mean = 0) as w"])
def test_param_as_an_expression(text: str) -> None:
    found = statement(f"state M: [K] = {text}")
    assert isinstance(found, ast.StateStmt)
    assert isinstance(found.initial, ast.ParamExpr)


def test_a_dtype_can_be_called() -> None:
    assert parse_expression("float(x)") == ast.Call(
        func=name("float"), brackets=None, args=(name("x"),), keywords=()
    )


def test_every_node_has_the_span_of_its_text() -> None:
    source = Source("a.seq", GRU)
    for node in nodes(parse(source)):
        assert node.span.source is source
        text = node.span.text
        assert text == text.strip() or node.span.start == 0
        match node:
            case ast.Name(id=expected) | ast.Number(text=expected):
                assert text == expected
            case ast.Index() | ast.DimList():
                assert text.endswith("]")
            case ast.Redim():
                assert text.endswith(")")
            case ast.TypeExpr(shape=tuple()):
                assert text.endswith("]")
            case _:
                pass


def test_parentheses_belong_to_the_span_of_what_they_hold() -> None:
    expr = parse_expression("(1 - z) * (n)")
    assert isinstance(expr, ast.Binary)
    texts = [expr.span.text, expr.left.span.text, expr.right.span.text]
    assert texts == ["(1 - z) * (n)", "(1 - z)", "(n)"]


def test_statement_spans_end_before_comments_and_line_breaks() -> None:
    (layer,) = spec("layer A(D):\n    input x: [D]  # width\n    output x\n\n").layers
    assert [s.span.text for s in layer.body] == ["input x: [D]", "output x"]
    assert layer.span.text.endswith("output x")


def test_comments_know_whether_they_stand_alone() -> None:
    text = "# one\nlayer A(D):  # two\n    # three\n    output (  # four\n    1)\n#five"
    comments = [(c.span.text, c.alone) for c in spec(text).comments]
    assert comments == [
        ("# one", True),
        ("# two", False),
        ("# three", True),
        ("# four", False),
        ("#five", True),
    ]


def test_a_hash_in_a_string_starts_no_comment() -> None:
    found = spec('def f():\n    "# text"')
    assert not found.comments


@pytest.mark.parametrize("text", ["", "\n", "  \n\t\n", "# note", "\ufeff", "# note\n"])
def test_a_file_may_be_empty(text: str) -> None:
    assert spec(text).declarations == ()


@pytest.mark.parametrize("change", ["\r\n", "\n\n", "\n", "  # note\n", "\n# note\n"])
def test_line_breaks_do_not_matter(change: str) -> None:
    assert spec(GRU.replace("\n", change)) == spec(GRU)


def test_byte_order_mark_and_missing_final_line_break() -> None:
    assert spec("\ufeff" + GRU.rstrip()) == spec(GRU)


def test_comments_of_a_crlf_file_have_no_line_break() -> None:
    (comment,) = spec("# note\r\nimport a\r\n").comments
    assert comment.span.text == "# note"


def test_brackets_suspend_the_layout() -> None:
    text = "def f(\n  x,\n):\n    g(\n  x,\n\n# note\nx,\n    )\n"
    assert spec(text) == spec("def f(x):\n    g(x, x)\n")


def test_tabs_may_indent_if_nothing_else_does() -> None:
    assert spec(GRU.replace("    ", "\t")) == spec(GRU)


def test_expressions_may_span_lines() -> None:
    assert parse_expression("a\n  + b # note") == parse_expression("a + b")


@pytest.mark.parametrize("text", ["", "a b", "a = b", "a\n)\nb(", "input x: [D]"])
def test_what_is_no_expression_is_refused(text: str) -> None:
    with pytest.raises((SpecError, ValueError)):
        parse_expression(text)


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(specs)
def test_spans_nest_in_any_spec(tree: ast.Spec) -> None:
    def check(node: ast.Ast, outer: Span) -> None:
        assert outer.start <= node.span.start < node.span.end <= outer.end
        for field in fields(node):
            value = getattr(node, field.name)
            for child in value if isinstance(value, tuple) else (value,):  # pyright: ignore
                if isinstance(child, ast.Ast):
                    check(child, node.span)

    text = format_spec(tree)
    for declaration in spec(text).declarations:
        check(declaration, declaration.span)


def test_work_grows_with_the_length() -> None:
    def text(lines: int) -> str:
        count = lines // GRU.count("\n")
        return "".join(GRU.replace("GRU", f"L{i}") for i in range(count))

    spec(GRU)
    few, many = calls(lambda: spec(text(500))), calls(lambda: spec(text(4000)))
    assert many < 9 * few, (few, many)
