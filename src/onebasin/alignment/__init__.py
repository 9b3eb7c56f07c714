"""Neuron alignment: bring models of one architecture into a common neuron order, and merge them into one model.

`match` (two models) and `align` (several) return permutations; `merge` and `average` return one model. The files need
permutations (`onebasin.symmetry`) and weights, and depend on nothing about rounds or clients.

Each file imports only files that stand before it in this list:
matching and averaging: models (checks), nested_groups, matching, merging, cycle_consistent
matching by activations instead of weights: forward_hooks, responses, signatures
improving a merged model: layers, ridge, recurrence, least_squares, repair, rescaling, distillation
probe inputs and targets for these: sketches, ensemble_targets, probes
evaluation: model_selection, similarity, interpolation
"""

from onebasin.alignment.matching import match
from onebasin.alignment.merging import align, average, merge
from onebasin.alignment.models import AlignmentError

__all__ = ["AlignmentError", "align", "average", "match", "merge"]
