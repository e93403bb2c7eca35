"""Loops along time as one kernel, with their states in registers: for what has to wait."""
