"""One finding about how safe a recurrence is in floating point."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from seqdsl.source import Span

LARGEST = math.log(3.4028234663852886e38)
"""exp of more than this is infinite in float32; bfloat16 ends at nearly the same."""


@dataclass(frozen=True)
class Note:
    """One finding about numbers; a `warning` names the safe form."""

    about: Literal["coefficient", "low rank", "chunk", "scan", "index"]
    text: str
    warning: bool = False
    span: Span | None = None

    def to_json(self) -> dict[str, str | int | bool | None]:
        """The finding as `explain --json` prints it."""
        span = self.span
        return {
            "about": self.about,
            "text": self.text,
            "warning": self.warning,
            "line": None if span is None else span.line,
        }
