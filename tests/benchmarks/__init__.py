"""Tests of the command of the benchmarks; what they measure is nobody's promise."""
