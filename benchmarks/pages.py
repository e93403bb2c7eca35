"""Tables that benchmarks write into pages of `docs/`, between two marks."""

from __future__ import annotations

from pathlib import Path


def put(page: Path, name: str, text: str) -> None:
    """`text` in the place of what is between `<!-- name -->` and `<!-- end of name -->`.

    Raises `ValueError` where a page has no such marks.
    """
    first, last = f"<!-- {name} -->", f"<!-- end of {name} -->"
    before, mark, rest = page.read_text("utf-8").partition(first)
    _, end, after = rest.partition(last)
    if not mark or not end:
        raise ValueError(f"{page} has no `{first}` before `{last}`")
    page.write_text(f"{before}{first}\n{text}\n{last}{after}", "utf-8")
