"""Steps of scans in a semiring: h -> a h + b, one after the other, and what they share.

SEMIRING is "real", "log" (logaddexp and +), "max_plus", "min_plus" or "max_min".
"""

import triton
import triton.language as tl


@triton.constexpr_function
def zero(SEMIRING):
    """What a sum leaves as it is."""
    return {"real": 0.0, "min_plus": float("inf")}.get(SEMIRING, float("-inf"))


@triton.constexpr_function
def one(SEMIRING):
    """What a product leaves as it is."""
    return {"real": 1.0, "max_min": float("inf")}.get(SEMIRING, 0.0)


@triton.jit
def logaddexp(x, y):
    """log(exp(x) + exp(y)), infinities included."""
    top = tl.maximum(x, y)
    safe = tl.where(tl.abs(top) == float("inf"), 0.0, top)
    found = top + tl.log(tl.exp(x - safe) + tl.exp(y - safe))
    return tl.where(tl.abs(top) == float("inf"), top, found)


@triton.jit
def chained(a, b, c, d):
    """First h -> a h + b, then h -> c h + d."""
    return a * c, b * c + d


@triton.jit
def log_chained(a, b, c, d):
    """The same in "log"."""
    return a + c, logaddexp(b + c, d)


@triton.jit
def max_plus_chained(a, b, c, d):
    """The same in "max_plus"."""
    return a + c, tl.maximum(b + c, d)


@triton.jit
def min_plus_chained(a, b, c, d):
    """The same in "min_plus"."""
    return a + c, tl.minimum(b + c, d)


@triton.jit
def max_min_chained(a, b, c, d):
    """The same in "max_min"."""
    return tl.minimum(a, c), tl.maximum(tl.minimum(b, c), d)


@triton.jit
def composed(a, b, REVERSE: tl.constexpr, SEMIRING: tl.constexpr):
    """Each step after all those before it (after it, for REVERSE)."""
    if SEMIRING == "real":
        return tl.associative_scan((a, b), 0, chained, reverse=REVERSE)
    elif SEMIRING == "log":
        return tl.associative_scan((a, b), 0, log_chained, reverse=REVERSE)
    elif SEMIRING == "max_plus":
        return tl.associative_scan((a, b), 0, max_plus_chained, reverse=REVERSE)
    elif SEMIRING == "min_plus":
        return tl.associative_scan((a, b), 0, min_plus_chained, reverse=REVERSE)
    else:
        return tl.associative_scan((a, b), 0, max_min_chained, reverse=REVERSE)


@triton.jit
def after(a, b, h, SEMIRING: tl.constexpr):
    """What a step makes of `h`."""
    if SEMIRING == "real":
        return a * h + b
    elif SEMIRING == "log":
        return logaddexp(a + h, b)
    elif SEMIRING == "max_plus":
        return tl.maximum(a + h, b)
    elif SEMIRING == "min_plus":
        return tl.minimum(a + h, b)
    else:
        return tl.maximum(tl.minimum(a, h), b)


@triton.jit
def larger(x, y):
    """Which part of a gradient goes to `x` in a maximum: ties share it."""
    return tl.where(x > y, 1.0, tl.where(x == y, 0.5, 0.0))


@triton.jit
def part(x, whole):
    """exp(x - whole), 0 where both are -inf."""
    return tl.where(whole == float("-inf"), 0.0, tl.exp(x - whole))


@triton.jit
def shares(a, b, before, h, SEMIRING: tl.constexpr):
    """Derivatives of h = a before + b by `before`, by `a` and by `b`."""
    if SEMIRING == "real":
        return a, before, tl.full(a.shape, 1.0, tl.float32)
    elif SEMIRING == "log":
        kept = part(a + before, h)
        return kept, kept, part(b, h)
    elif SEMIRING == "max_plus":
        kept = larger(a + before, b)
        return kept, kept, 1.0 - kept
    elif SEMIRING == "min_plus":
        kept = larger(b, a + before)
        return kept, kept, 1.0 - kept
    else:
        moved = larger(tl.minimum(a, before), b)
        kept = moved * larger(a, before)
        return kept, moved - kept, 1.0 - moved
