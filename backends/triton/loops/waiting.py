"""Why the steps of a method run one after another in a kernel."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence

_LACKING: Mapping[str, str] = {
    "_scan_matrices": "matrices that mix entries have no kernel that scans",
    "_scan_monoid": "steps of a monoid have no kernel that scans",
}
NOTE = "on a GPU one kernel for all steps"
"""What generated code says before it says why."""
REFUSED = "in torch also on a GPU"
"""The same where no kernel serves a method."""
SEQUENTIAL = "there is no parallel form"
PARTLY = "on a GPU one kernel from chunk to chunk, the rest of a chunk in torch"
"""The same where a parallel form is partly a kernel."""
_COUPLED = "several states are coupled"


def reason(method: Sequence[str], asked: bool) -> str | None:
    """Why a kernel of a loop serves `method`; None where other kernels, or torch, do.

    A method all of whose recurrences have a parallel form, but none with kernels, is run
    as a loop in a kernel where this fits, which is fewer launches than torch's; not so where
    a parallel form was `asked` for.
    """
    found = [_lacking(call) for call in _parallel(method)]
    if not found:
        return SEQUENTIAL
    why = dict.fromkeys(w for w in found if w)
    return None if asked or None in found else "; ".join(why)


def notes(text: str) -> list[str]:
    """What generated code says of its layers, each with the name of its class."""
    found: list[str] = []
    owner = ""
    for line in text.splitlines():
        if named := re.match(r"class (\w+)\(nn\.Module\):", line):
            owner = named[1]
        if noted := re.match(rf"\s+# ((?:{NOTE}|{REFUSED}|{PARTLY}): .*)", line):
            found.append(f"{owner}: {noted[1]}")
    return list(dict.fromkeys(found))


def _parallel(method: Sequence[str]) -> Iterator[ast.Call]:
    """Calls of helpers that compute a recurrence at all steps at once."""
    for node in ast.walk(ast.parse("class _:\n" + "\n".join(method))):
        match node:
            case ast.Call(func=ast.Name(id=name)) if re.fullmatch(
                r"_(scan\w*|chunkwise|convolved|newton)", name
            ):
                yield node
            case _:
                pass


def _lacking(call: ast.Call) -> str | None:
    """Why a form has no kernel of its own."""
    assert isinstance(call.func, ast.Name)
    return _LACKING.get(call.func.id)


def remarks(method: Sequence[str]) -> tuple[str, ...]:
    """What to say of parallel forms in `method` that are partly kernels."""
    coupled = any(k.arg == "states" for c in _parallel(method) for k in c.keywords)
    return (f"        # {PARTLY}: {_COUPLED}",) if coupled else ()
