"""Identifiers of the generated code: the spec's own names where Python allows."""

from __future__ import annotations

import keyword
import unicodedata
from collections.abc import Iterable

_OURS = (
    "self torch math nn F Tensor NamedTuple Any Callable Sequence state segments "
    "return_state starts ends batch time dtype device result outputs window "
    "CallError externs same past_t all_t all_runs begun runs t exact before at"
)
# Functions that generated methods call; other builtins may be hidden, as `id` or `input`
# by an argument of that name.
_CALLED = (
    "abs all any bool dict enumerate float int isinstance len list max min range round "
    "set sorted str sum super tuple type zip"
)
RESERVED = frozenset([*_OURS.split(), *_CALLED.split(), *keyword.kwlist])


class Names:
    """Hands out identifiers that are not taken yet."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self.taken = {*RESERVED, *taken}

    def new(self, wanted: str) -> str:
        """`wanted`, with a number behind it where that is needed."""
        base = identifier(wanted)
        number, result = 1, base
        while result in self.taken:
            number += 1
            result = f"{base.rstrip('_')}_{number}"
        self.taken.add(result)
        return result


def identifier(text: str) -> str:
    """`text` as a Python identifier: dots and the like become underscores."""
    text = unicodedata.normalize("NFKC", text)
    letters = [c if c.isalnum() or c == "_" else "_" for c in text]
    result = "".join(letters).strip("_") or "value"
    result = f"{result}_" if keyword.iskeyword(result) else result
    return result if result.isidentifier() else f"v_{result}"
