"""The figures: our own definitions, one pass over the batches, float64 and integer counts on the host."""
