"""From a data file to batches: tables of numbers, a plan of what their columns mean, arrays."""
