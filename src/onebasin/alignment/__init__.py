"""Bringing the neurons of several models into one order. Knows permutations and weights, and nothing of rounds."""

from onebasin.alignment.matching import match
from onebasin.alignment.merging import align, average, merge
from onebasin.alignment.models import AlignmentError

__all__ = ["AlignmentError", "align", "average", "match", "merge"]
