"""exp, log and what is made of them: polynomials in single precision."""

from __future__ import annotations

from seqdsl.backends.mlir.vector_body import Body
from seqdsl.backends.mlir.vector_library import library

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


def exp_single(b: Body, x: str) -> str:
    low, high = b.number(-104.5), b.number(89.0)
    inside = b.put(f"arith.minnumf {x}, {high} : {b.shape.real}")
    inside = b.put(f"arith.maxnumf {inside}, {low} : {b.shape.real}")
    n, r = _reduced(b, inside)
    tail = b.fma(b.poly(r, _EXP), b.mul(r, r), r)
    value = _power_of_two(b, b.add(tail, b.number(1.0)), b.to_whole(n))
    return b.select(b.compare("uno", x, x), x, value)


def expm1_single(b: Body, x: str) -> str:
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


def exp_below(b: Body, x: str) -> str:
    """exp of numbers that are not positive: no power of two is too large for its bits."""
    if b.shape.bits != 32:
        return exp(b, x)
    inside = b.put(f"arith.maxnumf {x}, {b.number(-104.5)} : {b.shape.real}")
    n, r = _reduced(b, inside)
    tail = b.fma(b.poly(r, _EXP), b.mul(r, r), r)
    # the exponent goes up by 64 first, so that what becomes tiny is rounded once
    high = b.int_("shli", b.to_whole(n), b.bits(23))
    high = b.int_("addi", high, b.bits(64 << 23))
    value = b.as_real(b.int_("addi", b.as_bits(b.add(tail, b.number(1.0))), high))
    value = b.mul(value, b.number(2.0**-64))
    return b.select(b.compare("uno", x, x), x, value)


def sigmoid(b: Body, x: str) -> str:
    size = b.call("absf", x)
    z = exp_below(b, b.neg(size))
    one = b.number(1.0)
    top = b.select(b.compare("oge", x, b.number(0.0)), one, z)
    return b.ratio(top, b.add(one, z))


def tanh_single(b: Body, x: str) -> str:
    size = b.call("absf", x)
    small = b.mul(x, x)
    near = b.fma(b.mul(b.poly(small, _TANH), small), x, x)
    one = b.number(1.0)
    e = exp_below(b, b.mul(size, b.number(-2.0)))
    far = b.ratio(b.sub(one, e), b.add(one, e))
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


def log_single(b: Body, x: str) -> str:
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


def log1p_single(b: Body, x: str) -> str:
    one = b.number(1.0)
    u = b.add(one, x)
    lost = b.sub(x, b.sub(u, one))
    value = b.add(log(b, u), b.div(lost, u))
    plain = b.compare("oeq", u, one)
    infinite = b.compare("oeq", u, b.number(float("inf")))
    zero = b.compare("oeq", u, b.number(0.0))
    value = b.select(infinite, u, value)
    value = b.select(zero, b.number(float("-inf")), value)
    return b.select(plain, x, value)


def softplus(b: Body, x: str) -> str:
    z = exp_below(b, b.neg(b.call("absf", x)))
    above = b.put(f"arith.maximumf {x}, {b.number(0.0)} : {b.shape.real}")
    return b.add(above, log1p(b, z))


def logsigmoid(b: Body, x: str) -> str:
    return b.neg(softplus(b, b.neg(x)))


def logaddexp(b: Body, x: str, y: str) -> str:
    top = b.put(f"arith.maximumf {x}, {y} : {b.shape.real}")
    gap = b.call("absf", b.sub(x, y))
    value = b.add(top, log1p(b, exp_below(b, b.neg(gap))))
    same = b.compare("oeq", x, y)
    size = b.call("absf", x)
    infinite = b.compare("oeq", size, b.number(float("inf")))
    both = b.put(f"arith.andi {same}, {infinite} : {b.shape.flag}")
    return b.select(both, x, value)


# ---- The same in any precision


def exp(b: Body, x: str) -> str:
    """The exponential function."""
    single = b.shape.bits == 32
    return exp_single(b, x) if single else library(b, "exp", (x,))


def log(b: Body, x: str) -> str:
    """The natural logarithm."""
    single = b.shape.bits == 32
    return log_single(b, x) if single else library(b, "log", (x,))


def log1p(b: Body, x: str) -> str:
    """The logarithm of 1 + x."""
    single = b.shape.bits == 32
    return log1p_single(b, x) if single else library(b, "log1p", (x,))


def tanh(b: Body, x: str) -> str:
    """The hyperbolic tangent."""
    single = b.shape.bits == 32
    return tanh_single(b, x) if single else library(b, "tanh", (x,))


def expm1(b: Body, x: str) -> str:
    """exp(x) - 1."""
    single = b.shape.bits == 32
    return expm1_single(b, x) if single else library(b, "expm1", (x,))
