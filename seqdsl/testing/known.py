"""Results that several properties ask for, computed once for each case."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TypeVar, cast

_T = TypeVar("_T")


class Known:
    """The latest results of a subject, by what was asked for; `most` of them."""

    def __init__(self, most: int = 32) -> None:
        self._most = most
        self._found: dict[Hashable, object] = {}

    def once(self, asked: Hashable, make: Callable[[], _T]) -> _T:
        """What `make` gave when `asked` was asked last, or gives now."""
        found = self._found.pop(asked) if asked in self._found else make()
        self._found[asked] = found  # behind all others
        while len(self._found) > self._most:
            del self._found[next(iter(self._found))]
        return cast(_T, found)
