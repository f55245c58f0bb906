"""Tests of the whole road, end to end on real parts."""
