"""What is wrong with a spec or a call, as data; `report.py` draws it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from seqdsl.source import Span


@dataclass(frozen=True)
class Label:
    """A place in the user's text and what happens there."""

    span: Span
    text: str


@dataclass(frozen=True)
class Diagnostic:
    """One finding: a code of `codes.CODES`, its facts, and where they lie.

    `span` is the place to mark with carets, `labels` are further places, `help`
    says what to do, one sentence an entry.
    """

    code: str
    message: str
    span: Span | None = None
    labels: tuple[Label, ...] = ()
    help: tuple[str, ...] = ()

    @property
    def is_error(self) -> bool:
        """Whether the code is an error's (`E…`) rather than a warning's (`W…`)."""
        return self.code.startswith("E")

    @property
    def short(self) -> str:
        """`file:line:column: code message`, on one line."""
        if self.span is None:
            return f"{self.code} {self.message}"
        span = self.span
        where = f"{span.source.name}:{span.line}:{span.column}"
        return f"{where}: {self.code} {self.message}"


class SeqdslError(Exception):
    """Any failure that seqdsl reports on purpose."""


class SpecError(SeqdslError):
    """The spec is wrong; `diagnostics` says where and why."""

    def __init__(self, diagnostics: Iterable[Diagnostic]) -> None:
        self.diagnostics = tuple(diagnostics)
        super().__init__(self.diagnostics)

    def __str__(self) -> str:
        from seqdsl.report import plain

        return "\n".join(plain(d) for d in self.diagnostics)


class CallError(SeqdslError):
    """A compiled module was called wrongly: shape, dtype, device, state or option."""


class UnsupportedError(SeqdslError):
    """A target cannot host a construct; the message names the construct."""
