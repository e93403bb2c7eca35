"""Kernels for recurrences as MLIR: text, and run in this process where torch-mlir is."""
