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
