"""Functions of numbers that Triton does not have, or has for GPUs alone."""

import triton
import triton.language as tl


@triton.jit
def squared(x):
    """x * x."""
    return x * x


@triton.jit
def logistic(x):
    """1 / (1 + exp(-x)), of which no exponent is positive."""
    small = tl.exp(-tl.abs(x))
    return tl.where(x >= 0, 1.0, small) / (1.0 + small)


@triton.jit
def hyperbolic(x):
    """tanh; close to 0 by its series, where the quotient would lose digits."""
    small = tl.exp(-2.0 * tl.abs(x))
    far = (1.0 - small) / (1.0 + small)
    square = x * x
    near = tl.abs(x) * (1.0 - square * (0.33333333 - square * 0.13333333))
    made = tl.where(tl.abs(x) < 0.05, near, far)
    return tl.where(x < 0, -made, made)


@triton.jit
def weighed(x):
    """x times its logistic function."""
    return x * logistic(x)


@triton.jit
def softened(x):
    """log(1 + exp(x))."""
    return tl.maximum(x, 0.0) + tl.log(1.0 + tl.exp(-tl.abs(x)))


@triton.jit
def bell(x):
    """x times the normal distribution at x."""
    return 0.5 * x * (1.0 + tl.erf(x * 0.7071067811865476))


@triton.jit
def log_summed(x, axis: tl.constexpr, keep_dims: tl.constexpr):
    """log of the sum of exp(x) along an axis, infinities included."""
    top = tl.max(x, axis=axis, keep_dims=keep_dims)
    safe = tl.where(tl.abs(top) == float("inf"), 0.0, top)
    found = safe + tl.log(tl.sum(tl.exp(x - safe), axis=axis, keep_dims=keep_dims))
    return tl.where(tl.abs(top) == float("inf"), top, found)


@triton.jit
def grown(x):
    """exp(x) - 1, exact close to 0 too (Kahan)."""
    whole = tl.exp(x)
    near = (whole == 1.0) | (tl.abs(x) > 0.5)
    factor = x / tl.where(near, 1.0, tl.log(whole))
    return tl.where(whole == 1.0, x, (whole - 1.0) * tl.where(near, 1.0, factor))


@triton.jit
def log_beside_one(x):
    """log(1 + x), exact close to 0 too (Kahan)."""
    whole = 1.0 + x
    near = (whole == 1.0) | (tl.abs(x) > 0.5)
    factor = x / tl.where(near, 1.0, whole - 1.0)
    return tl.where(whole == 1.0, x, tl.log(whole) * tl.where(near, 1.0, factor))


@triton.jit
def opened(x):
    """sinh."""
    less = grown(tl.abs(x))
    made = 0.5 * tl.where(less > 1e30, less, less + less / (less + 1.0))
    return tl.where(x < 0, -made, made)


@triton.jit
def hanging(x):
    """cosh."""
    large = tl.exp(tl.abs(x))
    return 0.5 * (large + 1.0 / large)


@triton.jit
def unwound(x):
    """The inverse of tanh."""
    made = 0.5 * log_beside_one(2.0 * tl.abs(x) / (1.0 - tl.abs(x)))
    return tl.where(x < 0, -made, made)


@triton.jit
def remainder(x, y):
    """x - y floor(x / y)."""
    return x - y * tl.floor(x / y)


@triton.jit
def powered(x, y):
    """x to the power y; a negative x has powers that are whole."""
    whole, odd = tl.floor(y) == y, remainder(y, 2.0 + 0.0 * y) == 1.0
    size = tl.exp(y * tl.log(tl.where(x == 0, 1.0, tl.abs(x))))
    at_zero = tl.where(y > 0, 0.0, tl.where(y < 0, float("inf"), 1.0))
    size = tl.where(x == 0, at_zero, size)
    signed = tl.where(odd, -size, tl.where(whole, size, float("nan")))
    return tl.where(x < 0, signed, size)
