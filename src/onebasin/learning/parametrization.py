"""What is trained in the place of a model's weights: the base of every parametrization."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import SerializeAsAny
from torch import nn
from torch.nn.utils.parametrize import is_parametrized, remove_parametrizations

from onebasin.core.choices import OpenChoice
from onebasin.core.registry import Registry
from onebasin.core.settings import Choice


class Parametrization(Choice):
    """What is trained and sent in the place of a model's weights.

    A file in `learning/parametrizations/`, or ``package.module:Name``, defines one.
    """

    keeps_weights: ClassVar[bool] = False
    """Whether the trained parameters are the model's own weights, which alignment and merging can set."""
    begins_with_weights: ClassVar[bool] = False
    """Whether training can begin with given weights (`task.weights`) rather than with drawn ones."""
    needs_weights: ClassVar[bool] = False
    """Whether it needs given weights (`task.weights`)."""
    trains_updates_as_masks: ClassVar[bool] = False
    """Whether an update is trained as the uplink's mask over seeded noise."""
    splits_scores: ClassVar[bool] = False
    """Whether scores are sent by the uplink and the other parameters by a dense codec."""

    @property
    def mask_form(self) -> str:
        """Return what a mask of its scores means, as stages and aggregation rules name it; "" without scores."""
        return ""

    def apply(self, model: nn.Module, seed: int, common_seed: int) -> nn.Module:
        """Replace the model's parameters and return it.

        seed: of what the parameters begin with. common_seed: of what all models of a run share, whatever their seed.
        `ValueError` for a model that has no layer to replace.
        """
        raise NotImplementedError


PARAMETRIZATIONS: Registry[Parametrization] = Registry(
    "parametrization", Parametrization, "onebasin.learning.parametrizations"
)
AnyParametrization = Annotated[SerializeAsAny[Parametrization], OpenChoice(PARAMETRIZATIONS)]


def fold(model: nn.Module) -> nn.Module:
    """Return the model, which is used up, with the weights that its parameters stand for, by a plain module's names."""
    model.eval()
    for module in model.modules():
        if is_parametrized(module):
            for name in list(module.parametrizations):  # type: ignore[arg-type]
                remove_parametrizations(module, name)
    return model
