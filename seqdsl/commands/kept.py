"""`cache`: what was compiled for native kernels and is kept for the next process."""

from __future__ import annotations

from seqdsl.commands.outcome import OK, print_json
from seqdsl.runtime import cache


def cache_(clear: bool, json: bool) -> int:
    """Say where compiled kernels are kept and how much that is; or remove them."""
    folder = cache.folder()
    removed = cache.clear() if clear else 0
    found = cache.files()
    size = sum(bytes_ for _, bytes_, _ in found)
    if json:
        where = None if folder is None else str(folder)
        facts = {"files": len(found), "bytes": size, "removed": removed}
        print_json({"folder": where, **facts})
        return OK
    if folder is None:
        print("nothing is kept: SEQDSL_CACHE is empty")
        return OK
    if clear:
        print(f"{removed} files removed from {folder}")
    else:
        print(f"{folder}: {len(found)} files, {size / 2**20:.1f} MiB")
    return OK
