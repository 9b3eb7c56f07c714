"""What is trained in the place of a model's weights."""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized, remove_parametrizations

from onebasin.core.seeds import generator
from onebasin.learning.parametrizations.anchored import anchor
from onebasin.learning.parametrizations.backbone_mask import mask_backbone
from onebasin.learning.parametrizations.low_rank import factorise
from onebasin.learning.parametrizations.score_masks import MaskByChance, MaskOfHighest, MaskOfPositive
from onebasin.learning.parametrizations.sparse_combination import combine_sparsely
from onebasin.learning.parametrizations.supermask import supermask
from onebasin.methods.settings import Anchored, BackboneMask, LowRank, Parametrization, SparseCombination, Supermask


def parametrize(model: nn.Module, chosen: Parametrization, seed: int, common: int = 0) -> nn.Module:
    """Return the model, with other parameters in the place of its weights.

    seed: draws what they begin with; common: draws what all models of a run have in common, whatever they begin with.
    """
    if isinstance(chosen, LowRank):
        factorise(model, chosen.gamma, generator(seed, "factors"))
    if isinstance(chosen, Supermask):
        supermask(model, partial(_masked, chosen), generator(seed, "random weights"), chosen.over)
    if isinstance(chosen, SparseCombination):
        combine_sparsely(model, chosen.compression, chosen.degree, generator(seed, "combinations"))
    if isinstance(chosen, Anchored):
        anchor(model, chosen.fraction, chosen.scale, generator(common, "anchors"))
    if isinstance(chosen, BackboneMask):
        mask_backbone(model, chosen.score, chosen.over)
    return model


def _masked(chosen: Supermask, weights: Tensor, shape: tuple[int, ...]) -> nn.Module:
    """What keeps some of a layer's random weights, by scores of a shape."""
    if chosen.kept == "highest":
        return MaskOfHighest(weights, shape, chosen.density)
    if chosen.kept == "above-zero":
        return MaskOfPositive(weights, shape, chosen.score)
    return MaskByChance(weights, shape)


def fold(model: nn.Module) -> nn.Module:
    """Return the model, to be used, with the weights that its parameters stand for, in a plain module's names."""
    model.eval()
    for module in model.modules():
        if is_parametrized(module):
            for name in list(module.parametrizations):  # type: ignore[arg-type]
                remove_parametrizations(module, name)
    return model
