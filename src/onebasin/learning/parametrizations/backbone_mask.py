"""Masks over a trained network: its weights stay as they are, and trained scores say which of them are kept.

Mallya, Davis, Lazebnik: Piggyback. ECCV 2018 (arXiv 1801.06519), section 3: one network that all hold, and for each
task a bit a weight and a last layer of its own. Its scores begin at 1e-2 and its threshold is 5e-3; only their
difference matters, so scores here are less the threshold: a weight is kept where its score is above 0. A score can also
be of all weights into a neuron, as in score_masks.py; its bias stays, so that a dropped one puts out a constant.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

from torch import nn
from torch.nn.utils.parametrize import register_parametrization

from onebasin.core.settings import Positive
from onebasin.learning.masks.layers import Maskable, MaskedUnit, refuse_tied, scores_of
from onebasin.learning.masks.score_masks import MaskOfPositive
from onebasin.learning.parametrization import Parametrization
from onebasin.learning.pretrained import head_of


class BackboneMask(Parametrization):
    """The weights of a trained network (task.weights) stay fixed; a score decides whether each is kept.

    The last layer is trained. score: the initial score of each weight; weights whose score is above 0 are kept. over: a
    score decides on one of the `weights`, or on all incoming weights of one of the `neurons` (filters); biases stay.
    """

    begins_with_weights: ClassVar[bool] = True
    needs_weights: ClassVar[bool] = True
    splits_scores: ClassVar[bool] = True

    kind: Literal["backbone-mask"] = "backbone-mask"
    score: Positive = 0.005
    over: MaskedUnit = "weights"

    @property
    def mask_form(self) -> str:
        return "backbone"

    def apply(self, model: nn.Module, seed: int, common_seed: int) -> nn.Module:
        mask_backbone(model, self.score, self.over)
        return model

    def needs(self, method: Any) -> Iterator[str]:
        if method.federated and method.start == "local":
            yield "parametrization='backbone-mask' has one backbone for all: start='local' is no use"


def mask_backbone(model: nn.Module, score: float, over: MaskedUnit = "weights") -> None:
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
