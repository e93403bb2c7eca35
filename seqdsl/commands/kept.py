"""`cache`: what was made of specs and is kept for the next process."""

from __future__ import annotations

from collections import Counter

from seqdsl.commands.outcome import OK, print_json
from seqdsl.runtime import cache


def cache_(clear: bool, json: bool) -> int:
    """Say where kernels, layers and specs are kept and how much that is; or remove them."""
    folder = cache.folder()
    removed = cache.clear() if clear else 0
    found = cache.files()
    size = sum(bytes_ for _, bytes_, _ in found)
    kinds = Counter(p.name.partition("-")[0] for p, _, _ in found)
    if json:
        where = None if folder is None else str(folder)
        facts = {"files": len(found), "bytes": size, "removed": removed, **kinds}
        print_json({"folder": where, **facts})
        return OK
    if folder is None:
        print("nothing is kept: SEQDSL_CACHE is empty")
        return OK
    if clear:
        print(f"{removed} files removed from {folder}")
    else:
        listed = ", ".join(f"{kinds[k]} {k}s" for k in sorted(kinds))
        more = f" ({listed})" if listed else ""
        print(f"{folder}: {len(found)} files, {size / 2**20:.1f} MiB{more}")
    return OK
