"""The error function, sine and cosine."""

from __future__ import annotations

from seqdsl.backends.mlir.vector_body import Body
from seqdsl.backends.mlir.vector_exp import exp
from seqdsl.backends.mlir.vector_library import library

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


def erf_single(b: Body, x: str) -> str:
    size = b.call("absf", x)
    near = b.mul(b.poly(b.mul(x, x), _ERF), x)
    inside = b.put(f"arith.minnumf {size}, {b.number(3.999)} : {b.shape.real}")
    far = b.sub(b.number(1.0), exp(b, b.neg(b.poly(inside, _ERFC))))
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


def sin_single(b: Body, x: str) -> str:
    return _unless_large(b, "sin", x, 0)


def cos_single(b: Body, x: str) -> str:
    return _unless_large(b, "cos", x, 1)


def _unless_large(b: Body, name: str, x: str, quarter: int) -> str:
    """Sine of `x` plus `quarter` right angles; where a lane is large, by the library."""
    near = _trigonometric(b, x, quarter)
    large = b.compare("ugt", b.call("absf", x), b.number(1e5))
    if b.shape.lanes:
        large = b.put(f"vector.reduction <or>, {large} : {b.shape.flag} into i1")
    inner = Body(b.shape, prefix=f"{b.prefix}far")
    far = library(inner, name, (x,))
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


def erf(b: Body, x: str) -> str:
    """The error function."""
    single = b.shape.bits == 32
    return erf_single(b, x) if single else library(b, "erf", (x,))


def sin(b: Body, x: str) -> str:
    """The sine."""
    single = b.shape.bits == 32
    return sin_single(b, x) if single else library(b, "sin", (x,))


def cos(b: Body, x: str) -> str:
    """The cosine."""
    single = b.shape.bits == 32
    return cos_single(b, x) if single else library(b, "cos", (x,))
