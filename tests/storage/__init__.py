"""Tests of the storage package: against a real Redis, the real embedded node, and Kubo where it is there."""
