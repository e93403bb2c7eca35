"""Numbering of sampling sites across sub-layers."""

from __future__ import annotations

from zlib import crc32


def site_in(call: str, site: int) -> int:
    """The site, in a caller's terms, of a sub-layer's `site` used by call site `call`.

    Two applications of one sub-layer thus draw different numbers. Applied once per level
    from the innermost call outwards, so that inlining one level changes no number.
    """
    return crc32(f"{call}/{site}".encode())
