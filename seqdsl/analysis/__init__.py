"""What can run in parallel: from a model to verdicts."""

from seqdsl.analysis.analyze import analyze
from seqdsl.analysis.one_line import one_line
from seqdsl.analysis.verdict import Analyzed, Recurrence, Verdict

__all__ = ["Analyzed", "Recurrence", "Verdict", "analyze", "one_line"]
