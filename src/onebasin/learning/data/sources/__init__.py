"""Readers of the built-in data sets, one module per data set or file format."""
