"""The formatter: what it prints, that it loses nothing, that it settles at once."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest
from hypothesis import HealthCheck, given, settings

from seqdsl.source import Source
from seqdsl.syntax import ast
from seqdsl.syntax.format import format_expr, format_spec
from seqdsl.syntax.parse import parse, parse_expression
from seqdsl.syntax.read import read
from seqdsl.testing.asts import expressions, specs

random_trees = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def formatted(text: str) -> str:
    """The canonical text, after the laws every formatting must obey."""
    spec = parse(Source("a.seq", text))
    once = format_spec(spec)
    again = parse(Source("a.seq", once))
    assert again == spec
    assert [c.span.text for c in again.comments] == [c.span.text for c in spec.comments]
    assert format_spec(again) == once
    return once


@random_trees
@given(specs)
def test_any_spec_survives_the_round_trip(spec: ast.Spec) -> None:
    text = format_spec(spec)
    again = parse(Source("a.seq", text))
    assert again == spec
    assert format_spec(again) == text


@random_trees
@given(expressions)
def test_any_expression_survives_the_round_trip(expr: ast.Expr) -> None:
    assert parse_expression(format_expr(expr)) == expr


CANONICAL = """\
# A gated recurrent unit.
import std.gla as g

layer GRU[K](D, H = D/2, V = 2*K, eps = 1e-6):  # one state
    input x: [D]
    input c: int [S, D as O] per batch
    state h: [H] = 0
    param W: [H, ...] ~ normal(0, 0.02) frozen as a.b

    # The update.
    y = softmax[s <= t and t - s < window](dot[K](q, k[s]) / sqrt(K))
    h = (1 - z) * h[t-1] + -z ** 2 * linear(x, H)  # a convex combination
    repeat n in 4 while x < 0.99:
        y: [H] = g.GLA(x)[n = N-1]
        # the end of the block
    a, b = f[s](x, width = 4) as key
    output z = x[K = 0:K/2:2 as J].(H -> J, D -> [a, b])

extern step(x: [D], n: int) -> float [H]
extern stop() -> []

# A function.
def attend(q: [K], window = inf):
    -q if not window == inf else (param)(q)
"""


def test_canonical_text_is_kept() -> None:
    assert formatted(CANONICAL) == CANONICAL


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("(a)", "a"),
        ("a*b+c", "a * b + c"),
        ("(a*b)+c", "a * b + c"),
        ("a*(b+c)", "a * (b + c)"),
        ("a-(b-c)", "a - (b - c)"),
        ("(a-b)-c", "a - b - c"),
        ("(a**b)**c", "(a ** b) ** c"),
        ("a**(b**c)", "a ** b ** c"),
        ("a**(-b)", "a ** -b"),
        ("(-a)**b", "(-a) ** b"),
        ("-(a**b)", "-a ** b"),
        ("-(-a)", "--a"),
        ("not (a and b)", "not (a and b)"),
        ("(not a)==b", "(not a) == b"),
        ("not (a==b)", "not a == b"),
        ("(a<b)<c", "(a < b) < c"),
        (
            "(a if b else c) if d else (e if f else g)",
            "(a if b else c) if d else e if f else g",
        ),
        ("(a+b)[t]", "(a + b)[t]"),
        ("(f(x))(y)", "f(x)(y)"),
        ("(x[K])(y)", "(x[K])(y)"),
        ("sum [ K ] ( x )", "sum[K](x)"),
        ("x[ t - 1 ]", "x[t-1]"),
        ("x[ n=N - 1 ]", "x[n = N-1]"),
        ("x[f(t) - 1]", "x[f(t) - 1]"),
        ("x[s<=t]", "x[s <= t]"),
        ("x[K=0 : K/2 as J]", "x[K = 0:K/2 as J]"),
        ("x . (H->J)", "x.(H -> J)"),
        ("x.([H] -> [J, K])", "x.(H -> [J, K])"),
        (
            "linear(x,[heads,2 * K],bias=false,)",
            "linear(x, [heads, 2*K], bias = false)",
        ),
        ("1_000 + 1E-6 + .5", "1_000 + 1E-6 + .5"),
        ("(f(x) as k) + 1", "(f(x) as k) + 1"),
        ("g(f(x) as k)", "g(f(x) as k)"),
        ("x[(f(K) as k)]", "x[(f(K) as k)]"),
    ],
)
def test_expressions(written: str, expected: str) -> None:
    assert format_expr(parse_expression(written)) == expected


def test_spacing_and_blank_lines() -> None:
    written = """
        import  a
        layer A( D,H=D ) :


            input   x:[D]



            output  x
        def f( x:[ D ],w=2 ):
            x
        extern g( ) -> [ D ]
    """
    expected = """\
        import a

        layer A(D, H = D):
            input x: [D]

            output x

        def f(x: [D], w = 2):
            x

        extern g() -> [D]
    """
    assert formatted(dedent(written)) == dedent(expected)


def test_comments_stay_where_they_are() -> None:
    written = """
        # file


        # declaration
        layer A(D):# header
          # first
          input x: [D]   # input
          repeat n in 3: # repeat
            # inside
            y = x
            # end of repeat
          # after repeat

          # before output
          output x
          # end of layer
        # end of file
    """
    expected = """\
        # file

        # declaration
        layer A(D):  # header
            # first
            input x: [D]  # input
            repeat n in 3:  # repeat
                # inside
                y = x
                # end of repeat
            # after repeat

            # before output
            output x
            # end of layer

        # end of file
    """
    assert formatted(dedent(written)) == dedent(expected)


def test_a_statement_with_comments_inside_keeps_its_lines() -> None:
    written = """\
        layer A(D,    # width
                H):   # height
          y = f(x,    # left
                2*x)  # right
    """
    expected = """\
        layer A(D,    # width
                H):  # height
            y = f(x,    # left
                  2*x)  # right
    """
    assert formatted(dedent(written)) == dedent(expected)


def test_long_lines_are_wrapped() -> None:
    long = "a_long_name_of_a_value"
    written = f"""\
        layer A(D):
            y = {long} * {long} + {long} * f({long}, {long}, {long}, {long}) - {long}
            z = linear({long}, {long}, bias = {long})
            w = linear({long}, {long}, {long}, bias = {long}, {long} = {long})  # why
            output {long} if {long} and {long} else {long}
        """
    expected = f"""\
        layer A(D):
            y = (
                {long} * {long}
                + {long}
                    * f(
                        {long},
                        {long},
                        {long},
                        {long},
                    )
                - {long}
            )
            z = linear(
                {long}, {long}, bias = {long}
            )
            w = linear(
                {long},
                {long},
                {long},
                bias = {long},
                {long} = {long},
            )  # why
            output (
                {long}
                if {long} and {long}
                else {long}
            )
        """
    text = formatted(dedent(written))
    assert text == dedent(expected).rstrip() + "\n"
    assert max(map(len, text.splitlines())) <= 88


def test_long_headers_are_wrapped() -> None:
    options = [f"option_number_{i}" for i in range(8)]
    text = formatted(f"layer A({', '.join(options)}):\n    output 1\n")
    lines = text.splitlines()
    assert lines[0] == "layer A("
    assert lines[1:9] == [f"        {option}," for option in options]
    assert lines[9:] == ["):", "    output 1"]


@pytest.mark.parametrize("text", ["", "\n\n", "\ufeff", "# note", "# note\r\n\r\n"])
def test_files_without_declarations(text: str) -> None:
    assert formatted(text) == ("# note\n" if "note" in text else "")


def test_line_breaks_and_tabs_are_normalized() -> None:
    written = CANONICAL.replace("    ", "\t").replace("\n", "\r\n")
    assert formatted(written) == CANONICAL


@pytest.mark.parametrize("sign", ["~", "="])
def test_the_sign_of_a_param_is_kept(sign: str) -> None:
    text = f"layer A(D):\n    param W: [D] {sign} normal(0, 1)\n"
    assert formatted(text) == text


def test_a_comment_left_of_its_block_stays_in_order() -> None:
    text = "layer A(D):\n    x = 1\n# left\n    # right\n    output x\n"
    assert formatted(text) == text.replace("# left", "    # left")


ROOT = Path(__file__).parents[2]
OURS = [
    path
    for folder in ("stdlib", "examples", "tests/language/ok", "tests/unit/torch_specs")
    for path in sorted((ROOT / folder).rglob("*.seq"))
]


@pytest.mark.parametrize("path", OURS, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_our_own_files_are_formatted(path: Path) -> None:
    source = read(path)
    assert format_spec(parse(source)) == source.text
