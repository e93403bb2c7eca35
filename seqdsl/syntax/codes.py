"""The codes of syntax errors, E0001 to E0049, each with its short title."""

from __future__ import annotations

SYNTAX_CODES: dict[str, str] = {
    # Characters
    "E0001": "unknown character",
    "E0002": "text without its double quotes",
    "E0003": "a bracket is never closed",
    "E0004": "a bracket closes nothing",
    "E0005": "number out of range",
    "E0006": "the file is not UTF-8 text",
    "E0007": "operator of another language",
    # Layout
    "E0010": "tabs and spaces are mixed",
    "E0011": "unexpected indentation",
    "E0012": "indentation that matches no block",
    "E0013": "empty block",
    "E0014": "statement outside of any layer or def",
    "E0015": "declaration inside a block",
    "E0016": "block on the line of its header",
    # Headers, declarations and types
    "E0020": "missing `:` at the end of a header",
    "E0021": "missing parentheses in a header",
    "E0022": "missing type",
    "E0023": "not a type",
    "E0024": "unknown rate of an input",
    "E0025": "a reserved word used as a name",
    "E0026": "missing name",
    # Statements
    "E0030": "missing value",
    "E0031": "`=` where a comparison is meant",
    "E0032": "the left of `=` is not a name",
    "E0033": "augmented assignment",
    "E0034": "several values where one is expected",
    "E0035": "statement or word of another language",
    "E0036": "comment without `#`",
    # Expressions
    "E0040": "nothing between two values",
    "E0041": "`if` without `else`",
    "E0042": "slice without an axis or a new name",
    "E0043": "positional argument after a named one",
    "E0044": "not a dim in a `.(… -> …)`",
    "E0045": "nested too deeply",
    "E0049": "a word or sign that cannot stand here",
}
