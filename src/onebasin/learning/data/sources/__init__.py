"""Readers of the built-in data sets, one file format a module."""
