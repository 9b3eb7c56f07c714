"""Masks over a trained network, the backbone: its weights are fixed, and trained scores decide which are kept.

Mallya, Davis, Lazebnik: Piggyback. ECCV 2018 (arXiv 1801.06519), section 3: one network for all tasks, and for each
task one bit per weight and a last layer of its own. The paper's scores start at 1e-2 and its threshold is 5e-3. Only
their difference matters, so the threshold here is 0 and scores start at 5e-3. A score can also decide on all incoming
weights of a neuron (score_masks.py); the neuron keeps its bias, so that without its weights it has a constant output.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

from torch import nn
from torch.nn.utils.parametrize import register_parametrization

from onebasin.core.settings import Positive
from onebasin.learning.masks.layers import Maskable, MaskedUnit, require_untied, score_shape
from onebasin.learning.masks.score_masks import PositiveScoresMask
from onebasin.learning.parametrization import Parametrization
from onebasin.learning.pretrained import head_of


class BackboneMask(Parametrization):
    """The weights of a trained network (task.weights) stay fixed; a score decides whether each is kept.

    The last layer is trained; biases stay fixed.
    score: the initial score of each weight; weights whose score is above 0 are kept.
    over: whether a score decides on one of the `weights`, or on all incoming weights of one of the `neurons` (filters).
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
    """Replace the weights of all linear and convolution layers except the last by trained scores, in place.

    The last layer is trained. All other parameters (biases, normalisation) keep their values and are not trained.
    score, over: as in `BackboneMask`.
    Raises ValueError if there is no layer before the last, if a layer's neurons cannot be masked, or if two modules
    share a masked weight.
    """
    head = head_of(model)
    layers = {name: module for name, module in model.named_modules() if isinstance(module, Maskable) and name != head}
    if not layers:
        raise ValueError(f"a mask needs linear or convolution layers before the last, {head!r}; the model has none")
    require_untied(model, layers.values())
    for name, parameter in model.named_parameters():
        if name.rpartition(".")[0] != head:
            parameter.requires_grad_(False)
    for layer in layers.values():
        mask = PositiveScoresMask(layer.weight.detach().clone(), score_shape(layer, over), score)
        register_parametrization(layer, "weight", mask)
        layer.parametrizations.weight.original.requires_grad_(True)  # type: ignore[union-attr]
