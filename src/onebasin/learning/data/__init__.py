"""Data sets: examples, readers of public data, partitions over clients."""
