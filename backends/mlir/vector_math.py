"""Functions of real numbers on vectors, as MLIR functions that the compiler inlines.

In single precision each is a polynomial of our own, within 4 units in the last place
over the whole range. In double precision `exp` and what is made of it goes through the
same steps where that is exact enough; the rest calls the mathematical library lane by
lane.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import isfinite, isnan

_EXP = (
    0.5000000027404444,
    0.16666575965435163,
    0.04166637186708154,
    0.00836334801688281,
    0.0013941416007824709,
)
_EXPM1 = (
    0.16666666697101037,
    0.04166655334248633,
    0.008333300591899902,
    0.0013926394127596767,
    0.00019899614546212832,
)
_LOG = (
    0.33333331203643174,
    -0.24999980428304905,
    0.20000701479489244,
    -0.16669227748214455,
    0.1425071345274746,
    -0.12394634703643062,
    0.11637428847867469,
    -0.11676131600607392,
    0.07344346461533746,
)
_TANH = (
    -0.3333333310260534,
    0.1333329292862853,
    -0.05395676070406099,
    0.021748903580941458,
    -0.008279786110790107,
    0.0022218281497887083,
)
_ERF = (
    1.1283791659137794,
    -0.37612627136052046,
    0.11283600177335151,
    -0.02685444464365564,
    0.005189535449202507,
    -0.0008020842331734357,
    7.889123246415524e-05,
)
_ERFC = (
    -0.00011904340381389011,
    1.129168945458942,
    0.634281320843707,
    0.10684231305321132,
    -0.023731238325411224,
    0.00329941630688975,
    -7.874636034457783e-05,
    -6.983031071538792e-05,
    1.3201738750010543e-05,
    -8.2905894082495e-07,
)
_SIN = (
    -0.1666666666383221,
    0.008333331865197888,
    -0.00019840081425678423,
    2.724922286993758e-06,
)
_COS = (0.04166666464888923, -0.0013888300668653784, 2.4547398131106026e-05)


@dataclass(frozen=True)
class Shape:
    """What a function works on: `lanes` numbers at once (0: one number) of `bits` bits."""

    lanes: int
    bits: int

    def of(self, element: str) -> str:
        """The MLIR type of as many `element`s."""
        return f"vector<{self.lanes}x{element}>" if self.lanes else element

    @property
    def real(self) -> str:
        return self.of(f"f{self.bits}")

    @property
    def whole(self) -> str:
        return self.of(f"i{self.bits}")

    @property
    def flag(self) -> str:
        return self.of("i1")

    def symbol(self, name: str) -> str:
        """The name of the function `name` on this shape."""
        return (
            f"{name}_{self.lanes}x{self.bits}" if self.lanes else f"{name}_{self.bits}"
        )


@dataclass
class Body:
    """The statements of one function; every method adds one and returns its name."""

    shape: Shape
    prefix: str = ""
    lines: list[str] = field(default_factory=list[str])
    known: dict[str, str] = field(default_factory=dict[str, str])

    def put(self, text: str) -> str:
        """A statement, or the one that says the same already."""
        if text not in self.known:
            name = f"%{self.prefix or 'v'}{len(self.lines)}"
            self.lines.append(f"    {name} = {text}")
            self.known[text] = name
        return self.known[text]

    def number(self, value: float) -> str:
        return self.put(f"arith.constant {_literal(value, self.shape, 'real')}")

    def bits(self, value: int) -> str:
        return self.put(f"arith.constant {_literal(value, self.shape, 'whole')}")

    def two(self, op: str, a: str, b: str) -> str:
        return self.put(f"arith.{op} {a}, {b} : {self.shape.real}")

    def add(self, a: str, b: str) -> str:
        return self.two("addf", a, b)

    def sub(self, a: str, b: str) -> str:
        return self.two("subf", a, b)

    def mul(self, a: str, b: str) -> str:
        return self.two("mulf", a, b)

    def div(self, a: str, b: str) -> str:
        return self.two("divf", a, b)

    def neg(self, a: str) -> str:
        return self.put(f"arith.negf {a} : {self.shape.real}")

    def fma(self, a: str, b: str, c: str) -> str:
        return self.put(f"math.fma {a}, {b}, {c} : {self.shape.real}")

    def call(self, op: str, a: str) -> str:
        """An operator of the dialect `math` that is one instruction."""
        return self.put(f"math.{op} {a} : {self.shape.real}")

    def compare(self, how: str, a: str, b: str) -> str:
        return self.put(f"arith.cmpf {how}, {a}, {b} : {self.shape.real}")

    def select(self, when: str, a: str, b: str) -> str:
        flag, real = self.shape.flag, self.shape.real
        kinds = f"{flag}, {real}" if self.shape.lanes else real
        return self.put(f"arith.select {when}, {a}, {b} : {kinds}")

    def int_(self, op: str, a: str, b: str) -> str:
        return self.put(f"arith.{op} {a}, {b} : {self.shape.whole}")

    def as_bits(self, a: str) -> str:
        return self.put(f"arith.bitcast {a} : {self.shape.real} to {self.shape.whole}")

    def as_real(self, a: str) -> str:
        return self.put(f"arith.bitcast {a} : {self.shape.whole} to {self.shape.real}")

    def to_whole(self, a: str) -> str:
        return self.put(f"arith.fptosi {a} : {self.shape.real} to {self.shape.whole}")

    def to_real(self, a: str) -> str:
        return self.put(f"arith.sitofp {a} : {self.shape.whole} to {self.shape.real}")

    def poly(self, x: str, coefficients: tuple[float, ...]) -> str:
        """Horner's rule."""
        value = self.number(coefficients[-1])
        for c in coefficients[-2::-1]:
            value = self.fma(value, x, self.number(c))
        return value


def _literal(value: float, shape: Shape, kind: str) -> str:
    real = kind == "real"
    type_ = shape.real if real else shape.whole
    text = literal(value, shape.bits) if real else str(value)
    return f"dense<{text}> : {type_}" if shape.lanes else f"{text} : {type_}"


def literal(value: float, bits: int) -> str:
    """A float as MLIR writes it: infinities and NaN by their bits."""
    if isfinite(value):
        return f"{float(value):.17e}"
    base = 0x7F800000 if bits == 32 else 0x7FF0000000000000
    quiet = 0x00400000 if bits == 32 else 0x0008000000000000
    sign = 1 << bits - 1 if value < 0 else 0
    return hex(base | sign | (quiet if isnan(value) else 0))


# ---- exp and what is made of it, in single precision


def _power_of_two(b: Body, value: str, n: str) -> str:
    """`value` times 2 to the whole number `n`, in two steps, so that none overflows."""
    half = b.int_("shrsi", n, b.bits(1))
    rest = b.int_("subi", n, half)
    for part in (half, rest):
        scale = b.int_("shli", b.int_("addi", part, b.bits(127)), b.bits(23))
        value = b.mul(value, b.as_real(scale))
    return value


def _reduced(b: Body, x: str) -> tuple[str, str]:
    """`n` and `r` with x = n log 2 + r, r small."""
    n = b.call("roundeven", b.mul(x, b.number(1.4426950408889634)))
    r = b.fma(n, b.number(-0.693145751953125), x)
    return n, b.fma(n, b.number(-1.4286068203094172e-06), r)


def _exp(b: Body, x: str) -> str:
    low, high = b.number(-104.5), b.number(89.0)
    inside = b.put(f"arith.minnumf {x}, {high} : {b.shape.real}")
    inside = b.put(f"arith.maxnumf {inside}, {low} : {b.shape.real}")
    n, r = _reduced(b, inside)
    tail = b.fma(b.poly(r, _EXP), b.mul(r, r), r)
    value = _power_of_two(b, b.add(tail, b.number(1.0)), b.to_whole(n))
    return b.select(b.compare("uno", x, x), x, value)


def _expm1(b: Body, x: str) -> str:
    low, high = b.number(-18.0), b.number(89.0)
    inside = b.put(f"arith.minnumf {x}, {high} : {b.shape.real}")
    inside = b.put(f"arith.maxnumf {inside}, {low} : {b.shape.real}")
    n, r = _reduced(b, inside)
    square = b.mul(r, r)
    cubic = b.mul(b.mul(b.poly(r, _EXPM1), r), square)
    tail = b.add(b.fma(b.number(0.5), square, cubic), r)
    whole = b.to_whole(n)
    one = _power_of_two(b, b.number(1.0), whole)
    big = _power_of_two(b, b.add(tail, b.number(1.0)), whole)
    value = b.fma(tail, one, b.sub(one, b.number(1.0)))
    over = b.compare("ogt", inside, b.number(44.0))
    value = b.select(over, big, value)
    zero = b.compare("oeq", x, b.number(0.0))
    strange = b.put(f"arith.ori {zero}, {b.compare('uno', x, x)} : {b.shape.flag}")
    return b.select(strange, x, value)


def _sigmoid(b: Body, x: str) -> str:
    size = b.call("absf", x)
    z = _apply(b, "exp", b.neg(size))
    one = b.number(1.0)
    top = b.select(b.compare("oge", x, b.number(0.0)), one, z)
    return b.div(top, b.add(one, z))


def _tanh(b: Body, x: str) -> str:
    size = b.call("absf", x)
    small = b.mul(x, x)
    near = b.fma(b.mul(b.poly(small, _TANH), small), x, x)
    one = b.number(1.0)
    e = _apply(b, "exp", b.add(size, size))
    far = b.sub(one, b.div(b.number(2.0), b.add(e, one)))
    far = b.put(f"math.copysign {far}, {x} : {b.shape.real}")
    return b.select(b.compare("olt", size, b.number(0.65)), near, far)


# ---- log


def _log_of(b: Body, x: str) -> tuple[str, str, str]:
    """`e` and `f` with x = 2^e (1 + f) for positive x, and the polynomial part."""
    tiny = b.compare("olt", x, b.number(1.1754943508222875e-38))
    lifted = b.select(tiny, b.mul(x, b.number(8388608.0)), x)
    raw = b.as_bits(lifted)
    # the mantissa as a number in [sqrt(1/2), sqrt(2))
    shifted = b.int_("addi", raw, b.bits(0x3F800000 - 0x3F3504F3))
    exponent = b.int_("subi", b.int_("shrui", shifted, b.bits(23)), b.bits(127))
    mantissa = b.int_("andi", shifted, b.bits(0x007FFFFF))
    mantissa = b.int_("addi", mantissa, b.bits(0x3F3504F3))
    f = b.sub(b.as_real(mantissa), b.number(1.0))
    e = b.to_real(exponent)
    e = b.sub(e, b.select(tiny, b.number(23.0), b.number(0.0)))
    square = b.mul(f, f)
    cubic = b.mul(b.mul(b.poly(f, _LOG), f), square)
    return e, f, b.fma(b.number(-0.5), square, cubic)


def _log(b: Body, x: str) -> str:
    e, f, rest = _log_of(b, x)
    rest = b.fma(e, b.number(-2.12194440e-4), rest)
    value = b.add(b.fma(e, b.number(0.693359375), f), rest)
    value = b.add(f, rest)
    value = b.fma(e, b.number(0.693359375), value)
    infinite = b.compare("oeq", x, b.number(float("inf")))
    value = b.select(infinite, x, value)
    zero = b.compare("oeq", x, b.number(0.0))
    value = b.select(zero, b.number(float("-inf")), value)
    wrong = b.compare("ult", x, b.number(0.0))
    return b.select(wrong, b.number(float("nan")), value)


def _log1p(b: Body, x: str) -> str:
    one = b.number(1.0)
    u = b.add(one, x)
    lost = b.sub(x, b.sub(u, one))
    value = b.add(_apply(b, "log", u), b.div(lost, u))
    plain = b.compare("oeq", u, one)
    infinite = b.compare("oeq", u, b.number(float("inf")))
    zero = b.compare("oeq", u, b.number(0.0))
    value = b.select(infinite, u, value)
    value = b.select(zero, b.number(float("-inf")), value)
    return b.select(plain, x, value)


def _softplus(b: Body, x: str) -> str:
    z = _apply(b, "exp", b.neg(b.call("absf", x)))
    above = b.put(f"arith.maximumf {x}, {b.number(0.0)} : {b.shape.real}")
    return b.add(above, _apply(b, "log1p", z))


def _logsigmoid(b: Body, x: str) -> str:
    return b.neg(_softplus(b, b.neg(x)))


def _logaddexp(b: Body, x: str, y: str) -> str:
    top = b.put(f"arith.maximumf {x}, {y} : {b.shape.real}")
    gap = b.call("absf", b.sub(x, y))
    value = b.add(top, _apply(b, "log1p", _apply(b, "exp", b.neg(gap))))
    same = b.compare("oeq", x, y)
    size = b.call("absf", x)
    infinite = b.compare("oeq", size, b.number(float("inf")))
    both = b.put(f"arith.andi {same}, {infinite} : {b.shape.flag}")
    return b.select(both, x, value)


# ---- erf, sine, cosine


def _erf(b: Body, x: str) -> str:
    size = b.call("absf", x)
    near = b.mul(b.poly(b.mul(x, x), _ERF), x)
    inside = b.put(f"arith.minnumf {size}, {b.number(3.999)} : {b.shape.real}")
    far = b.sub(b.number(1.0), _apply(b, "exp", b.neg(b.poly(inside, _ERFC))))
    far = b.put(f"math.copysign {far}, {x} : {b.shape.real}")
    value = b.select(b.compare("olt", size, b.number(1.0)), near, far)
    return b.select(b.compare("uno", x, x), x, value)


def _trigonometric(b: Body, x: str, quarter: int) -> str:
    """Sine of `x` plus `quarter` right angles; good to |x| = 10^5."""
    n = b.call("roundeven", b.mul(x, b.number(0.6366197723675814)))
    r = x
    for part in (-1.5707963705062866, 4.371139000186241e-08, 1.7151245100058819e-15):
        r = b.fma(n, b.number(part), r)
    square = b.mul(r, r)
    sine = b.fma(b.mul(b.poly(square, _SIN), square), r, r)
    cosine = b.fma(b.number(-0.5), square, b.number(1.0))
    cosine = b.fma(b.mul(square, square), b.poly(square, _COS), cosine)
    place = b.int_("addi", b.to_whole(n), b.bits(quarter))
    odd = b.int_("andi", place, b.bits(1))
    is_odd = b.put(f"arith.cmpi ne, {odd}, {b.bits(0)} : {b.shape.whole}")
    value = b.select(is_odd, cosine, sine)
    turned = b.int_("shli", b.int_("andi", place, b.bits(2)), b.bits(30))
    return b.as_real(b.int_("xori", b.as_bits(value), turned))


def _sin(b: Body, x: str) -> str:
    return _unless_large(b, "sin", x, 0)


def _cos(b: Body, x: str) -> str:
    return _unless_large(b, "cos", x, 1)


def _unless_large(b: Body, name: str, x: str, quarter: int) -> str:
    """Sine of `x` plus `quarter` right angles; where a lane is large, by the library."""
    near = _trigonometric(b, x, quarter)
    large = b.compare("ugt", b.call("absf", x), b.number(1e5))
    if b.shape.lanes:
        large = b.put(f"vector.reduction <or>, {large} : {b.shape.flag} into i1")
    inner = Body(b.shape, prefix=f"{b.prefix}far")
    far = _library(inner, name, (x,))
    result = f"%{b.prefix or 'v'}{len(b.lines)}"
    b.lines += [
        f"    {result} = scf.if {large} -> ({b.shape.real}) {{",
        *inner.lines,
        f"      scf.yield {far} : {b.shape.real}",
        "    } else {",
        f"      scf.yield {near} : {b.shape.real}",
        "    }",
    ]
    return result


_SINGLE: Mapping[str, Callable[..., str]] = {
    "exp": _exp,
    "expm1": _expm1,
    "tanh": _tanh,
    "log": _log,
    "log1p": _log1p,
    "erf": _erf,
    "sin": _sin,
    "cos": _cos,
}
"""Polynomials in single precision."""

_MADE: Mapping[str, Callable[..., str]] = {
    "sigmoid": _sigmoid,
    "softplus": _softplus,
    "logsigmoid": _logsigmoid,
    "logaddexp": _logaddexp,
}
"""Made of others, in any precision."""

_LIBRARY: Mapping[str, str] = {
    "pow": "powf",
    **{
        name: name
        for name in (*_SINGLE, "tan", "atan", "sinh", "cosh", "atanh", "atan2")
    },
}
"""What the mathematical library has, by the name of its operation in MLIR."""

_LANE_BY_LANE = frozenset(("expm1", "log1p"))
"""What MLIR would make of others and lose digits."""

FUNCTIONS = frozenset((*_SINGLE, *_MADE, *_LIBRARY))
ARITY: Mapping[str, int] = {"logaddexp": 2, "pow": 2, "atan2": 2}


def _apply(b: Body, name: str, *args: str) -> str:
    if name in _MADE:
        return _MADE[name](b, *args)
    if name in _SINGLE and b.shape.bits == 32:
        return _SINGLE[name](b, *args)
    return _library(b, name, args)


def _library(b: Body, name: str, args: tuple[str, ...]) -> str:
    """A call of the library, in double precision whatever the shape's."""
    wide = b.shape.of("f64")
    if b.shape.bits == 32:
        args = tuple(b.put(f"arith.extf {a} : {b.shape.real} to {wide}") for a in args)
    if name in _LANE_BY_LANE:
        value = _each_lane(b, name, args[0])
    elif name == "atanh":
        value = _atanh(b, args[0])
    else:
        value = b.put(f"math.{_LIBRARY[name]} {', '.join(args)} : {wide}")
    if b.shape.bits == 64:
        return value
    return b.put(f"arith.truncf {value} : {wide} to {b.shape.real}")


def _each_lane(b: Body, name: str, x: str) -> str:
    """The library's function on one number after another."""
    if not b.shape.lanes:
        return b.put(f"func.call @{name}({x}) : (f64) -> f64")
    wide, result = b.shape.of("f64"), x
    for i in range(b.shape.lanes):
        entry = b.put(f"vector.extract {x}[{i}] : f64 from {wide}")
        entry = b.put(f"func.call @{name}({entry}) : (f64) -> f64")
        result = b.put(f"vector.insert {entry}, {result} [{i}] : f64 into {wide}")
    return result


def _atanh(b: Body, x: str) -> str:
    wide = Body(Shape(b.shape.lanes, 64), b.prefix, b.lines, b.known)
    size = wide.call("absf", x)
    ratio = wide.div(wide.add(size, size), wide.sub(wide.number(1.0), size))
    half = wide.mul(wide.number(0.5), _each_lane(b, "log1p", ratio))
    return wide.put(f"math.copysign {half}, {x} : {wide.shape.real}")


def declarations() -> list[str]:
    """What functions may call of the mathematical library."""
    return [f"  func.func private @{n}(f64) -> f64" for n in sorted(_LANE_BY_LANE)]


def function(name: str, shape: Shape) -> str:
    """The MLIR function that computes `name` on `shape`."""
    body = Body(shape)
    names = [f"%x{i}" for i in range(ARITY.get(name, 1))]
    result = _apply(body, name, *names)
    args = ", ".join(f"{n}: {shape.real}" for n in names)
    head = f"  func.func private @{shape.symbol(name)}({args}) -> {shape.real} {{"
    return "\n".join([head, *body.lines, f"    return {result} : {shape.real}", "  }"])
