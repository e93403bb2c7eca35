"""The reference interpreter: slow, plain, and the meaning of the language."""

from seqdsl.backends.reference.initial import initial_params
from seqdsl.backends.reference.interpret import interpret

__all__ = ["initial_params", "interpret"]
