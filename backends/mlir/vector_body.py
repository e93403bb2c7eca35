"""Statements of a function on vectors under construction."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import isfinite, isnan


@dataclass(frozen=True)
class Shape:
    """What a function works on: `lanes` numbers at once (0: one number) of `bits` bits."""

    lanes: int
    bits: int

    def of(self, element: str) -> str:
        """The MLIR type of as many `element`s."""
        return f"vector<{self.lanes}x{element}>" if self.lanes else element

    @property
    def real(self) -> str:
        return self.of(f"f{self.bits}")

    @property
    def whole(self) -> str:
        return self.of(f"i{self.bits}")

    @property
    def flag(self) -> str:
        return self.of("i1")

    def symbol(self, name: str) -> str:
        """The name of the function `name` on this shape."""
        return (
            f"{name}_{self.lanes}x{self.bits}" if self.lanes else f"{name}_{self.bits}"
        )


@dataclass
class Body:
    """The statements of one function; every method adds one and returns its name."""

    shape: Shape
    prefix: str = ""
    lines: list[str] = field(default_factory=list[str])
    known: dict[str, str] = field(default_factory=dict[str, str])

    def put(self, text: str) -> str:
        """A statement, or the one that says the same already."""
        if text not in self.known:
            name = f"%{self.prefix or 'v'}{len(self.lines)}"
            self.lines.append(f"    {name} = {text}")
            self.known[text] = name
        return self.known[text]

    def number(self, value: float) -> str:
        return self.put(f"arith.constant {_literal(value, self.shape, 'real')}")

    def bits(self, value: int) -> str:
        return self.put(f"arith.constant {_literal(value, self.shape, 'whole')}")

    def two(self, op: str, a: str, b: str) -> str:
        return self.put(f"arith.{op} {a}, {b} : {self.shape.real}")

    def add(self, a: str, b: str) -> str:
        return self.two("addf", a, b)

    def sub(self, a: str, b: str) -> str:
        return self.two("subf", a, b)

    def mul(self, a: str, b: str) -> str:
        return self.two("mulf", a, b)

    def div(self, a: str, b: str) -> str:
        return self.two("divf", a, b)

    def ratio(self, a: str, b: str) -> str:
        """`a / b` for `b` from 1 to 2, by an estimate of 1 / b where the processor has one.

        It would make NaN of a denominator that is infinite or 0.
        """
        flags = " fastmath<arcp>" if self.shape.bits == 32 else ""
        return self.put(f"arith.divf {a}, {b}{flags} : {self.shape.real}")

    def neg(self, a: str) -> str:
        return self.put(f"arith.negf {a} : {self.shape.real}")

    def fma(self, a: str, b: str, c: str) -> str:
        return self.put(f"math.fma {a}, {b}, {c} : {self.shape.real}")

    def call(self, op: str, a: str) -> str:
        """An operator of the dialect `math` that is one instruction."""
        return self.put(f"math.{op} {a} : {self.shape.real}")

    def compare(self, how: str, a: str, b: str) -> str:
        return self.put(f"arith.cmpf {how}, {a}, {b} : {self.shape.real}")

    def select(self, when: str, a: str, b: str) -> str:
        flag, real = self.shape.flag, self.shape.real
        kinds = f"{flag}, {real}" if self.shape.lanes else real
        return self.put(f"arith.select {when}, {a}, {b} : {kinds}")

    def int_(self, op: str, a: str, b: str) -> str:
        return self.put(f"arith.{op} {a}, {b} : {self.shape.whole}")

    def as_bits(self, a: str) -> str:
        return self.put(f"arith.bitcast {a} : {self.shape.real} to {self.shape.whole}")

    def as_real(self, a: str) -> str:
        return self.put(f"arith.bitcast {a} : {self.shape.whole} to {self.shape.real}")

    def to_whole(self, a: str) -> str:
        return self.put(f"arith.fptosi {a} : {self.shape.real} to {self.shape.whole}")

    def to_real(self, a: str) -> str:
        return self.put(f"arith.sitofp {a} : {self.shape.whole} to {self.shape.real}")

    def poly(self, x: str, coefficients: tuple[float, ...]) -> str:
        """Horner's rule."""
        value = self.number(coefficients[-1])
        for c in coefficients[-2::-1]:
            value = self.fma(value, x, self.number(c))
        return value


def _literal(value: float, shape: Shape, kind: str) -> str:
    real = kind == "real"
    type_ = shape.real if real else shape.whole
    text = literal(value, shape.bits) if real else str(value)
    return f"dense<{text}> : {type_}" if shape.lanes else f"{text} : {type_}"


def literal(value: float, bits: int) -> str:
    """A float as MLIR writes it: infinities and NaN by their bits."""
    if isfinite(value):
        return f"{float(value):.17e}"
    base = 0x7F800000 if bits == 32 else 0x7FF0000000000000
    quiet = 0x00400000 if bits == 32 else 0x0008000000000000
    sign = 1 << bits - 1 if value < 0 else 0
    return hex(base | sign | (quiet if isnan(value) else 0))
