"""Numbering of sampling sites across sub-layers."""

from __future__ import annotations

_BASE = 0x0F3A_91C7_5D2B_E64D
_PRIME = 2**61 - 1


def site_in(call: str, site: int) -> int:
    """The site, in a caller's terms, of a sub-layer's `site` used by call site `call`.

    Two applications of one sub-layer thus draw different numbers. It is applied once per
    level, from the inside out. As a polynomial hash it does not care whether call `b`
    inside call `a` is seen as such or as `a_b`, so inlining changes no number.
    """
    for letter in reversed(f"{call}_"):
        site = (site * _BASE + ord(letter)) % _PRIME
    return site
