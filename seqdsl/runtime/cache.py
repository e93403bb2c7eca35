"""What was compiled, kept in files: written whole, checked when read, bounded in size.

The folder is `$SEQDSL_CACHE`, else `seqdsl` in `$XDG_CACHE_HOME` or `~/.cache`; nothing is
kept where the variable is empty. Every file can be lost at any time: a reader that finds
none, or one that is damaged, makes its own.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

_MOST = 1 << 28
"""Bytes that the folder may hold; what was not read for longest goes first."""

_DIGEST = hashlib.sha256().digest_size


def folder() -> Path | None:
    """Where files are kept; None where none are."""
    given = os.environ.get("SEQDSL_CACHE")
    if given is not None:
        return Path(given) if given else None
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "seqdsl"


def key(*parts: str) -> str:
    """A name for what was made from `parts` by this very compiler."""
    made = hashlib.sha256(sources().encode())
    for part in parts:
        data = part.encode()
        made.update(b"%d:" % len(data))
        made.update(data)
    return made.hexdigest()


@cache
def sources() -> str:
    """Changes whenever a file of the package does."""
    found = hashlib.sha256()
    for path, size, changed in sorted(_sources(Path(__file__).parents[1])):
        found.update(f"{path} {size} {changed}\n".encode())
    return found.hexdigest()


def _sources(at: Path) -> Iterator[tuple[str, int, int]]:
    with os.scandir(at) as entries:
        for entry in entries:
            if entry.name.endswith((".py", ".j2", ".lark", ".seq")):
                info = entry.stat()
                yield entry.path, info.st_size, info.st_mtime_ns
            elif entry.is_dir() and entry.name not in ("__pycache__", "docs"):
                yield from _sources(Path(entry.path))


def load(name: str) -> bytes | None:
    """What was stored under `name`; None where nothing is, or only what is damaged."""
    at = folder()
    if at is None:
        return None
    path = at / name
    try:
        if hasattr(os, "getuid") and path.stat().st_uid != os.getuid():
            return None
        data = path.read_bytes()
        if hashlib.sha256(data[_DIGEST:]).digest() != data[:_DIGEST]:
            path.unlink(missing_ok=True)
            return None
        os.utime(path)
    except OSError:
        return None
    return data[_DIGEST:]


def store(name: str, data: bytes) -> None:
    """Keep `data` under `name`. Readers see all of it or nothing; failures do not matter."""
    at = folder()
    if at is None:
        return
    try:
        at.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, draft = tempfile.mkstemp(dir=at, prefix=".draft-")
        with os.fdopen(handle, "wb") as file:
            file.write(hashlib.sha256(data).digest() + data)
        os.replace(draft, at / name)
        _prune(at)
    except OSError:
        return


def files() -> list[tuple[Path, int, float]]:
    """Path, size and time of last use of everything that is kept."""
    at = folder()
    found: list[tuple[Path, int, float]] = []
    if at is None or not at.is_dir():
        return found
    with os.scandir(at) as entries:
        for entry in entries:
            try:
                info = entry.stat()
            except OSError:  # another process has just removed it
                continue
            if entry.is_file():
                found.append((Path(entry.path), info.st_size, info.st_mtime))
    return found


def clear() -> int:
    """Remove everything; how many files that were."""
    found = files()
    for path, _, _ in found:
        path.unlink(missing_ok=True)
    return len(found)


_stored = [0]


def _prune(at: Path) -> None:
    """Looks at the whole folder now and then; removes what is too much."""
    _stored[0] += 1
    if _stored[0] % 32 != 1:
        return
    found = sorted(files(), key=lambda f: f[2])
    total = sum(size for _, size, _ in found)
    for path, size, _ in found:
        if total <= _MOST:
            return
        path.unlink(missing_ok=True)
        total -= size
