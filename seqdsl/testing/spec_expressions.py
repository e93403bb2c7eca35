"""Random expressions of a wanted shape, well typed and bounded by construction.

Each form below writes a float expression with exactly the dims asked for, or None where
it cannot. What functions are applied to lies well inside their domain.
"""

from __future__ import annotations

from collections.abc import Callable

from seqdsl.testing.spec_operators import ALONG, BINARY, REDUCE, UNARY
from seqdsl.testing.spec_scope import Dims, Named, Writer, shape, target

Form = Callable[[Writer, Dims, int], str | None]

PADS = ("zero", "circular", "replicate")


def expression(w: Writer, dims: Dims, depth: int) -> str:
    """A float expression with exactly `dims`; at most about 10 in magnitude."""
    if depth <= 0:
        return leaf(w, dims)
    for _ in range(3):
        text = w.pick(FORMS)(w, dims, depth - 1)
        if text is not None:
            return text
    return leaf(w, dims)


def leaf(w: Writer, dims: Dims) -> str:
    """A value as it stands, at another step, or projected."""
    same = w.readable(dims)
    if not same or w.chance(20):
        return projected(w, dims)
    return read(w, w.pick(same))


def read(w: Writer, value: Named) -> str:
    """`v` or `v` at an earlier step (a later one where that is allowed)."""
    if not value.varies:
        return value.text
    if w.chance(20):
        later = not w.causal and w.chance(50)
        sign = value.sign or ("+" if later else "-")
        return f"{value.text}[t{sign}{w.pick((1, 2))}]"
    return value.text


def projected(w: Writer, dims: Dims) -> str:
    """`linear` of anything, or a parameter of its own."""
    if w.axis != "dynamic" and (w.chance(90) or w.readable(dims)):
        arg = read(w, w.any_float())
        bias = ", bias = false" if w.chance(30) else ""
        return f"linear({arg}, {target(dims)}{bias})"
    if w.axis != "dynamic":
        return f"param({shape(dims)}, normal(0, 0.5))"
    found = w.readable(dims)
    return read(w, w.pick(found)) if found else broadcast(w, dims)


def broadcast(w: Writer, dims: Dims) -> str:
    """Without parameters: a value's mean, spread over `dims`."""
    value = w.any_float()
    text = value.text
    for dim in value.dims:
        text = f"mean[{dim}]({text})"
    return " * ".join([text, *(f"cos(0.7 * index[{d}])" for d in dims)])


# ---- Forms


def _unary(w: Writer, dims: Dims, depth: int) -> str:
    return w.pick([*UNARY.values()]).format(expression(w, dims, depth))


def _binary(w: Writer, dims: Dims, depth: int) -> str:
    a = expression(w, dims, depth)
    b = expression(w, () if w.chance(20) else dims, depth)
    return w.pick([*BINARY.values()]).format(a, b)


def _constant(w: Writer, dims: Dims, depth: int) -> str:
    number = w.pick(("0.5", "2", "-0.25", "1 / (1 + t)", "cos(0.3 * t)"))
    return f"({expression(w, dims, depth)} * {number})"


def _outer(w: Writer, dims: Dims, depth: int) -> str | None:
    if len(dims) < 2:
        return None
    a, b = expression(w, dims[:1], depth), expression(w, dims[1:], depth)
    return f"tanh({a}) * {b}"


def _other_dim(w: Writer, dims: Dims) -> str | None:
    free = [d for d in ("D", "H", "K") if d not in dims]
    return w.pick(free) if free and len(dims) < 2 else None


def _reduction(w: Writer, dims: Dims, depth: int) -> str | None:
    dim = _other_dim(w, dims)
    if dim is None:
        return None
    inner = expression(w, (dim, *dims), depth)
    return w.pick([*REDUCE.values()]).format(inner, dim)


def _contraction(w: Writer, dims: Dims, depth: int) -> str | None:
    dim = _other_dim(w, dims)
    if dim is None:
        return None
    a, b = expression(w, (dim, *dims), depth), expression(w, (dim,), depth)
    return f"dot[{dim}]({a}, tanh({b}))"


def _keeping(w: Writer, dims: Dims, depth: int) -> str | None:
    if not dims:
        return None
    forms = [f for k, f in ALONG.items() if w.axis != "dynamic" or k not in _OWN]
    return w.pick(forms).format(expression(w, dims, depth), w.pick(dims))


_OWN = ("rmsnorm", "layernorm", "conv")
"""Forms with parameters, which a repeat of unknown length cannot hold."""


def _second_name(w: Writer, dims: Dims, depth: int) -> str | None:
    if dims == ("D",):
        inner = expression(w, ("D",), depth)
        weight = "param([D, J], normal(0, 0.3))"
        if w.axis != "dynamic" and w.chance(50):
            return f"dot[J]({weight}, ({inner}).(D -> J))"
        return f"({inner}).(D -> J).(J -> D)"
    return None


def _split(w: Writer, dims: Dims, depth: int) -> str | None:
    if set(dims) == {"H", "K"}:
        return f"({expression(w, ('M',), depth)}).(M -> [H, K])"
    if dims == ("M",):
        return f"({expression(w, ('H', 'K'), depth)}).([H, K] -> M)"
    return None


def _slice(w: Writer, dims: Dims, depth: int) -> str | None:
    if dims != ("H",):
        return None
    name = w.fresh("C")
    inner = f"concat[H as {name}]({expression(w, dims, depth)}, "
    inner += f"{expression(w, dims, depth)})"
    other = w.fresh("C")
    picked = w.pick((f"0:2*H:2 as {other}", f"H:2*H as {other}"))
    return f"({inner})[{name} = {picked}].({other} -> H)"


def _stack(w: Writer, dims: Dims, depth: int) -> str | None:
    name = w.fresh("P")
    w.declare(f"dim {name} = 2")
    parts = f"{expression(w, dims, depth)}, {expression(w, dims, depth)}"
    return f"mean[{name}](stack[{name}]({parts}))"


def _lookup(w: Writer, dims: Dims, depth: int) -> str | None:
    found = w.readable((), "int")
    if not found or w.axis == "dynamic":
        return None
    token = read(w, w.pick(found))
    if w.chance(40):
        return f"embed({token}, V, {target(dims)})"
    if w.chance(50):
        return f"linear(onehot[V]({token}), {target(dims)})"
    return f"gather[V](param({shape(('V', *dims))}), {token})"


def _convolution(w: Writer, dims: Dims, depth: int) -> str | None:
    if w.axis == "dynamic":
        return None
    if dims and w.chance(50):
        found = w.readable(dims, varies=True)
        if found:
            more = w.pick(("", ", bias = false", ", dilation = 2"))
            return f"conv({w.pick(found).text}, width = {w.pick((1, 2, 3))}{more})"
    if dims in (("D",), ("H",)):
        arg, pad = expression(w, dims, depth), w.pick(PADS)
        return f'conv[{dims[0]}]({arg}, width = 3, pad = "{pad}")'
    if not dims:
        return None
    arg = w.any_float(varies=True)
    return f"conv({arg.text}, {target(dims)}, width = {w.pick((2, 3))})"


def _running(w: Writer, dims: Dims, depth: int) -> str | None:
    found = w.readable(dims, varies=True)
    if not found or w.axis is not None:
        return None
    value = w.pick(found).text
    forms = (
        f"cumsum[t](tanh({value})) / (1 + t)",
        f"cumprod[t](0.5 + sigmoid({value}))",
        f"cummax[t]({value})",
        f"cummin[t]({value})",
        f"logcumsumexp[t]({value}) - log(1 + t)",
    )
    return f"tanh({w.pick(forms)})"


def _mask(w: Writer) -> str:
    masks = ["s <= t", "s <= t and t - s < 3", "s <= t and t - s < 1"]
    flags = w.readable((), "bool", varies=True)
    if flags:
        masks.append(f"s <= t and ({flags[0].text}[s] or s == t)")
    return w.pick(masks if w.causal else [*masks, "s", "s >= t", "t - s <= 1"])


def _attention(w: Writer, dims: Dims, depth: int) -> str | None:
    found = w.readable(dims, varies=True)
    if not found or w.axis is not None:
        return None
    value = w.pick(found).text
    if w.chance(40):
        op = w.pick(("mean", "max", "min", "sum", "logsumexp"))
        mask = _mask(w)
        moves = f" + 0 * {value}" if mask == "s" else ""  # else one for all steps
        return f"tanh({op}[{mask}]({value}[s]){moves})"
    if w.axis is None and dims == ("D",) and w.chance(30):
        return f"attend({value}, {w.pick(found).text}, {value})"
    keys = w.any_float(varies=True)
    score = f"{keys.text} * {keys.text}[s]"
    if keys.dims:
        score = f"dot[{', '.join(keys.dims)}]({keys.text}, {keys.text}[s])"
    op = w.pick(("softmax[{0}]({1})", "sigmoid({1}) * float({0})"))
    mask = _mask(w)
    if mask == "s":
        op, mask = "softmax[{0}]({1})", "s"
    return f"tanh(dot[s]({op.format(mask, score)}, {value}[s]))"


def _sublayer(w: Writer, dims: Dims, depth: int) -> str | None:
    if len(dims) != 1 or w.axis == "dynamic" or not w.layers:
        return None
    inner = expression(w, dims, depth)
    return w.pick(w.layers).format(inner)


def _chance(w: Writer, dims: Dims, depth: int) -> str | None:
    inner = expression(w, dims, depth)
    if not w.random or w.axis is not None:
        return None
    forms = [f"dropout({inner}, 0.3)", f"{inner} * uniform{shape(dims)}(0.5, 1.5)"]
    seeded = f"{inner} + normal{shape(dims)}(0, 0.1, seed = 3)"
    return w.pick([seeded, *forms]) if dims else w.pick(forms[:1])


def _gradient(w: Writer, dims: Dims, depth: int) -> str | None:
    found = w.readable(dims, varies=True)
    if not found or w.axis is not None:
        return None
    value = w.pick(found)
    over = f"[{', '.join(dims)}]" if dims else ""
    inner = f"square(sin({value.text}) - 0.3)"
    loss = f"sum{over}({inner})" if dims else inner
    return f"grad({loss}, {value.text})"


FORMS: tuple[Form, ...] = (
    lambda w, dims, depth: leaf(w, dims),
    _unary,
    _binary,
    _constant,
    _outer,
    _reduction,
    _contraction,
    _keeping,
    _keeping,
    _second_name,
    _split,
    _slice,
    _stack,
    _lookup,
    _convolution,
    _running,
    _attention,
    _sublayer,
    _chance,
    _gradient,
)
