"""What must hold of every compiled layer, one named property each."""

from seqdsl.testing.properties.table import PROPERTIES, Property

__all__ = ["PROPERTIES", "Property"]
