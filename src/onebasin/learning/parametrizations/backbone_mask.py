"""Masks over a trained network: its weights stay as they are, and trained scores say which of them are kept.

Mallya, Davis, Lazebnik: Piggyback. ECCV 2018 (arXiv 1801.06519), section 3: one network that all hold, and for each
task a bit a weight and a last layer of its own. Its scores begin at 1e-2 and its threshold is 5e-3; only their
difference matters, so scores here are less the threshold: a weight is kept where its score is above 0. A score can also
be of all weights into a neuron, as in score_masks.py; its bias stays, so that a dropped one puts out a constant.
"""

from __future__ import annotations

from torch import nn
from torch.nn.utils.parametrize import register_parametrization

from onebasin.learning.parametrizations.score_masks import MaskOfPositive
from onebasin.learning.parametrizations.supermask import Maskable, refuse_tied, scores_of
from onebasin.learning.pretrained import head_of
from onebasin.methods.settings import Masked


def mask_backbone(model: nn.Module, score: float, over: Masked = "weights") -> None:
    """Put scores in the place of the weights of all linear and convolution layers but the last, which is trained.

    All other parameters (biases, normalisation) stay as they are, too. score: of every weight at first. over: what a
    score is of. `ValueError` when there is no layer before the last, one that cannot be masked by its neurons, or a
    weight is masked that two modules share.
    """
    head = head_of(model)
    layers = {name: module for name, module in model.named_modules() if isinstance(module, Maskable) and name != head}
    if not layers:
        raise ValueError(f"a mask needs linear or convolution layers before the last, {head!r}; the model has none")
    refuse_tied(model, layers.values())
    for name, parameter in model.named_parameters():
        if name.rpartition(".")[0] != head:
            parameter.requires_grad_(False)
    for layer in layers.values():
        kind = MaskOfPositive(layer.weight.detach().clone(), scores_of(layer, over), score)
        register_parametrization(layer, "weight", kind)
        layer.parametrizations.weight.original.requires_grad_(True)  # type: ignore[union-attr]
