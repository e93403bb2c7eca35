"""Torch modules whose loops along time are kernels, differentiable like any other."""
