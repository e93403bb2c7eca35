"""Counter-based random numbers: exact, uniform, normal and without visible relations."""

from __future__ import annotations

import math

import pytest
import torch

from seqdsl.ir.sites import site_in
from seqdsl.runtime.random import random_bits, random_normal, random_uniform

MASK = 2**64 - 1


def mixed(numbers: list[int]) -> int:
    """The same chain in Python's unbounded integers, constants in unsigned form."""
    h = 0
    for n in numbers:
        h = (h + (n + 1) * 0x9E3779B97F4A7C15) & MASK
        h = ((h ^ (h >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        h = ((h ^ (h >> 27)) * 0x94D049BB133111EB) & MASK
        h ^= h >> 31
    return h


@pytest.mark.parametrize("numbers", [[0, 0], [7, 3, 5], [-9, 2**32, 2**62, 1]])
def test_bits_are_exact_64_bit_arithmetic(numbers: list[int]) -> None:
    seed, site, *counters = numbers
    assert int(random_bits(seed, site, counters)) & MASK == mixed(numbers)


def test_first_splitmix_output_of_seed_zero() -> None:
    assert mixed([0]) == 0xE220A8397B1DCDAF, "published value of SplitMix64, seed 0"


def grid(*shape: int) -> list[torch.Tensor]:
    axes = [torch.arange(n) for n in shape]
    return list(torch.meshgrid(*axes, indexing="ij"))


def test_grids_agree_with_single_counters() -> None:
    batch, time, element = torch.arange(3), torch.arange(4), torch.arange(5)
    counters = [batch[:, None, None], time[:, None], element]
    whole = random_uniform(11, 2, counters)
    assert whole.shape == (3, 4, 5)
    assert whole[2, 1, 3] == random_uniform(11, 2, [2, 1, 3])
    seed = torch.tensor(11)
    assert torch.equal(whole, random_uniform(seed, 2, counters))


def test_single_precision_has_the_same_uniforms_below_one() -> None:
    double = random_uniform(1, 0, grid(1 << 18))
    single = random_uniform(1, 0, grid(1 << 18), torch.float32)
    assert torch.equal(double, single.double())
    assert 0 <= single.min() and single.max() < 1
    normal = random_normal(1, 0, grid(1 << 12), torch.float32).double()
    torch.testing.assert_close(
        normal, random_normal(1, 0, grid(1 << 12)), atol=1e-5, rtol=1e-5
    )


def chi_square(values: torch.Tensor, cells: int) -> float:
    """Deviation of cell counts from uniform, in standard deviations of chi-square."""
    counts = torch.histc(values.flatten().double(), cells, 0, 1)
    expected = values.numel() / cells
    statistic = ((counts - expected) ** 2 / expected).sum().item()
    return (statistic - (cells - 1)) / math.sqrt(2 * (cells - 1))


@pytest.mark.parametrize("seed", [0, 1, 2, 12345, -1])
@pytest.mark.parametrize("shape", [(1 << 17,), (512, 256), (32, 64, 64)])
def test_uniform_along_every_axis(seed: int, shape: tuple[int, ...]) -> None:
    values = random_uniform(seed, 0, grid(*shape))
    assert abs(chi_square(values, 256)) < 4.5
    low = (values * 2**12) % 1  # the lower half of the 24 bits
    assert abs(chi_square(low, 256)) < 4.5


def correlation(a: torch.Tensor, b: torch.Tensor) -> float:
    """Sample correlation times √n: about standard normal for independent samples."""
    pair = torch.stack([a.flatten(), b.flatten()])
    return float(torch.corrcoef(pair)[0, 1]) * math.sqrt(a.numel())


def test_neighboring_counters_are_unrelated() -> None:
    values = random_uniform(5, 0, grid(256, 256))
    assert abs(correlation(values[:, 1:], values[:, :-1])) < 4.5
    assert abs(correlation(values[1:], values[:-1])) < 4.5
    assert abs(correlation(values, values.T.contiguous())) < 6.5  # each pair twice
    for seed, site in ((6, 0), (5, 1), (0, 5)):
        other = random_uniform(seed, site, grid(256, 256))
        assert abs(correlation(values, other)) < 4.5
        assert abs(chi_square((values - other) % 1, 64)) < 4.5


def test_normal_moments_and_tails() -> None:
    values = random_normal(3, 1, grid(1 << 18))
    n = values.numel()
    assert abs(values.mean().item()) < 4.5 / math.sqrt(n)
    assert abs(values.var().item() - 1) < 4.5 * math.sqrt(2 / n)
    assert abs((values**4).mean().item() - 3) < 4.5 * math.sqrt(96 / n)
    assert abs(chi_square((1 + torch.erf(values / math.sqrt(2))) / 2, 256)) < 4.5
    assert abs(correlation(values[1:], values[:-1])) < 4.5
    assert values.abs().max() < 5.78


def test_call_sites_have_sites_of_their_own() -> None:
    calls = ("a", "b", "a1", "a_b", "long_name_of_a_layer")
    sites = {site_in(call, site) for call in calls for site in range(12)}
    assert len(sites) == 60 and all(0 <= s < 2**61 for s in sites)
    assert site_in("a", site_in("b", 3)) == site_in("a_b", 3)
