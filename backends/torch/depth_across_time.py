"""Steps of loops along depth that are made outside of a loop along time and read in it.

Or the other way round: within such a loop a list has a step of time for every step of
depth, outside of it the whole sequence.
"""

from __future__ import annotations

from seqdsl.backends.torch.along_depth import inner_axes, scope_of, starts_in
from seqdsl.backends.torch.equations import exprs_of
from seqdsl.backends.torch.expressions import expression, initial
from seqdsl.backends.torch.memory import full_type, whole
from seqdsl.backends.torch.method import Key, Method
from seqdsl.backends.torch.pointwise import cast, dtype_code, tensor
from seqdsl.backends.torch.python import Atom, Expr, call, one_line, tuple_of
from seqdsl.backends.torch.streaming import expressions, key_of
from seqdsl.backends.torch.values import Value, align
from seqdsl.diagnostics import UnsupportedError
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import Size
from seqdsl.ir.types import BATCH, TIME
from seqdsl.ir.walk import subtree
from seqdsl.schedule.plan import TimeLoop, defined, walk


def count(m: Method, repeat: ir.Repeat) -> str:
    """How many steps a loop along depth has, at most, as code."""
    steps: Size | ir.Node = repeat.count
    if isinstance(steps, ir.Base):
        return f"int({one_line(expression(m, steps).code)})"
    code: Expr = m.whole(steps)
    return one_line(code, 7)


def take_steps(m: Method, loop: TimeLoop) -> None:
    """What `loop` reads of steps of loops that ran before it, as one tensor each."""
    names = set(defined(loop.body))
    for node in _reads_in(m, loop):
        key = key_of(node.arg)
        place = "every", *key, node.axis
        steps = m.env.get(("steps", *key, node.axis))
        if str(key[1]) in names or place in m.env or steps is None:
            continue
        if TIME not in steps.layout:
            continue
        if inner_axes(m, key, node.axis):
            raise UnsupportedError(
                f"a step of `{key[1]}`, which stands in a loop inside of "
                f"`{node.axis}`, is read within a loop along time"
            )
        m.env[place] = _every(m, node, steps)


def _reads_in(m: Method, loop: TimeLoop) -> list[ir.At | ir.Stack]:
    exprs = [expr for step in walk(loop.body) for expr in exprs_of(step)]
    states = (m.model.state.get(name) for name in defined(loop.body))
    exprs += [s.initial for s in states if s is not None]
    nodes = (node for expr in exprs for node in subtree(expr))
    return [n for n in nodes if isinstance(n, ir.At | ir.Stack) and n.axis != TIME]


def _every(m: Method, node: ir.At | ir.Stack, steps: Value) -> Value:
    """All steps from the initial value on, as the dimension after time."""
    rest = tuple(n for n in steps.layout if n not in (BATCH, TIME))
    before = None if starts_in(m, node) else initial(m, node.arg)
    if before is None:
        sizes = [m.need("batch"), Atom("1"), *m.extents(rest)]
        dtype = dtype_code(m, steps.dtype)
        first: Expr = call("torch.zeros", *sizes, dtype=dtype, device=m.need("device"))
    else:
        name = str(key_of(node.arg)[1])
        type_ = full_type(m.model, name)
        value = whole(m, cast(m, tensor(m, before), type_.dtype), name)
        first = align(value, (BATCH, TIME, *rest))
    code = call(m.helper("_every_step"), steps.code, first, m.need("time"))
    name = m.names.new(f"{key_of(node.arg)[1]}_every")
    m.write(f"{name} = ", code)
    return Value(Atom(name), (BATCH, TIME, node.axis, *rest), steps.dtype)


def listed(m: Method, names: frozenset[str]) -> frozenset[Key]:
    """Lists that a loop along time makes at each step and that are read outside of it."""
    inside = {id(e.expr) for e in m.model.equations if e.name in names}
    found: set[Key] = set()
    for expr, _ in expressions(m.model):
        if id(expr) in inside:
            continue
        for node in subtree(expr):
            match node:
                case (
                    ir.Stack(arg=arg, axis=axis)
                    | ir.At(arg=arg, axis=axis, index=ir.Base())
                ):
                    key = key_of(arg)
                    if str(key[1]) in names and _outermost(m, key, axis):
                        found.add(("steps", *key, axis))
                case _:
                    pass
    return frozenset(found)


def _outermost(m: Method, key: Key, axis: str) -> bool:
    """Whether `axis` is that of the first loop along depth that is still to come."""
    return axis in scope_of(m, key)[len(m.steps) :][:1]


def sequences(
    m: Method, key: Key, value: Value, source: Expr, like: Expr, rest: tuple[str, ...]
) -> Expr:
    """The list `key` as one of whole sequences, from `source`, a list of such lists."""
    if BATCH not in value.layout:
        raise UnsupportedError(
            f"`{key[2]}` does not change along time, stands in a loop within one along "
            "time, and is read outside of it"
        )
    axis = str(key[-1])
    inner = inner_axes(m, key[1:-1], axis)
    counts = [count(m, m.model.repeat[a]) for a in (axis, *inner)]
    helper = m.helper("_steps_in_time")
    return call(helper, source, like, tuple_of(counts), *m.extents(rest))
