"""Counter-based random numbers: the same in every form, on every device.

The text between the imports and the end is copied as it stands into generated modules.
"""

import math
from collections.abc import Sequence

import torch


def random_bits(
    seed: int | torch.Tensor, site: int, counters: Sequence[int | torch.Tensor]
) -> torch.Tensor:
    """64 random bits (int64) for each of the broadcast `counters`, all in int64 range.

    A chain of SplitMix64 steps (Steele, Lea, Flood 2014) in wrapping int64 arithmetic.
    """
    bits = torch.zeros((), dtype=torch.int64)
    for number in (seed, site, *counters):
        number = torch.as_tensor(number, dtype=torch.int64)
        bits = bits + (number + 1) * -0x61C8864680B583EB
        bits = (bits ^ ((bits >> 30) & 0x3FFFFFFFF)) * -0x40A7B892E31B1A47
        bits = (bits ^ ((bits >> 27) & 0x1FFFFFFFFF)) * -0x6B2FB644ECCEEE15
        bits = bits ^ ((bits >> 31) & 0x1FFFFFFFF)
    return bits


def random_uniform(
    seed: int | torch.Tensor,
    site: int,
    counters: Sequence[int | torch.Tensor],
    dtype: torch.dtype = torch.float64,
) -> torch.Tensor:
    """Uniform in [0, 1): multiples of 2⁻²⁴, hence equal in float32 and float64."""
    return ((random_bits(seed, site, counters) >> 40) & 0xFFFFFF).to(dtype) * 2.0**-24


def random_normal(
    seed: int | torch.Tensor,
    site: int,
    counters: Sequence[int | torch.Tensor],
    dtype: torch.dtype = torch.float64,
) -> torch.Tensor:
    """Standard normal by Box–Muller from 24 + 24 bits; at most 5.77 in magnitude."""
    bits = random_bits(seed, site, counters)
    radius = torch.sqrt(
        -2 * torch.log1p(((bits >> 40) & 0xFFFFFF).to(dtype) * -(2.0**-24))
    )
    return radius * torch.cos(
        ((bits >> 16) & 0xFFFFFF).to(dtype) * (math.tau * 2.0**-24)
    )
