"""Functions of real numbers by the operations that MLIR has, for other compilers."""

from __future__ import annotations

from seqdsl.backends.mlir.pointwise import Pointwise
from seqdsl.backends.mlir.writer import Val


class LibraryMath(Pointwise):
    """Writes operators without functions of ours."""

    def function(self, name: str, *values: Val) -> Val:
        """A function of `vector_math`, as operations of the dialect `math`."""
        x = values[0]
        match name:
            case "sigmoid":
                one = self.number(1, "float")
                low = self.function("exp", self.plain("arith.negf", x))
                return self.arithmetic("div", one, self.arithmetic("add", one, low))
            case "softplus":
                above = self.arithmetic("max", x, self.number(0, "float"))
                return self.arithmetic("add", above, self._beside(x))
            case "logsigmoid":
                below = self.arithmetic("min", x, self.number(0, "float"))
                return self.arithmetic("sub", below, self._beside(x))
            case "logaddexp":
                return self._logaddexp(*values)
            case "pow":
                return self.plain("math.powf", *values)
            case _:
                return self.plain(f"math.{name}", *values)

    def _beside(self, x: Val) -> Val:
        """log(1 + exp(-|x|))."""
        size = self.plain("math.absf", x)
        low = self.function("exp", self.plain("arith.negf", size))
        return self.plain("math.log1p", low)

    def _logaddexp(self, x: Val, y: Val) -> Val:
        top = self.arithmetic("max", x, y)
        value = self.arithmetic("add", top, self._beside(self.arithmetic("sub", x, y)))
        infinite = self.number(float("inf"), "float")
        size = self.plain("math.absf", x)
        same = self.plain(
            "arith.andi", self.compare("eq", x, y), self.compare("eq", size, infinite)
        )
        return self.select(same, x, value)
