"""The base class of parametrizations: what is trained and sent in the place of a model's weights."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import SerializeAsAny
from torch import nn
from torch.nn.utils.parametrize import is_parametrized, remove_parametrizations

from onebasin.core.choices import OpenChoice
from onebasin.core.registry import Registry
from onebasin.core.settings import Choice


class Parametrization(Choice):
    """What is trained and sent in the place of a model's weights (setting `method.parametrization`).

    A file in `learning/parametrizations/`, or ``package.module:Name``, defines one.
    """

    keeps_weights: ClassVar[bool] = False
    """Whether the trained parameters are the model's own weights, so that models can be aligned and merged."""
    begins_with_weights: ClassVar[bool] = False
    """Whether training can start from the weights of a file (`task.weights`)."""
    needs_weights: ClassVar[bool] = False
    """Whether training must start from the weights of a file (`task.weights`)."""
    trains_updates_as_masks: ClassVar[bool] = False
    """Whether the forward pass uses the update as the uplink will send it: as a mask over seeded noise."""
    splits_scores: ClassVar[bool] = False
    """Whether the uplink encodes only the scores of masks, and a dense codec the other parameters."""

    @property
    def masks_progressively(self) -> bool:
        """Return whether the share of masked values grows in a local phase, where updates are trained as masks."""
        return False

    @property
    def mask_form(self) -> str:
        """How scores become a mask: "probability", "sign" or "backbone"; "" if there are no scores.

        The uplink's last stage (`MaskStage.mask_forms`) and the aggregation rule must have the same form.
        """
        return ""

    def apply(self, model: nn.Module, seed: int, common_seed: int) -> nn.Module:
        """Replace the parameters of a model in place, and return the model.

        seed: of the initial parameters.
        common_seed: of constants that all models of a run share.
        Raises ValueError if the model has no layer that can be replaced.
        """
        raise NotImplementedError


PARAMETRIZATIONS: Registry[Parametrization] = Registry(
    "parametrization", Parametrization, "onebasin.learning.parametrizations"
)
AnyParametrization = Annotated[SerializeAsAny[Parametrization], OpenChoice(PARAMETRIZATIONS)]


def fold(model: nn.Module) -> nn.Module:
    """Replace the parametrizations of a model in place by the weights that they compute, and return the model.

    The weights are those of evaluation mode, and the parameters get their original names again.
    """
    model.eval()
    for module in model.modules():
        if is_parametrized(module):
            for name in list(module.parametrizations):  # type: ignore[arg-type]
                remove_parametrizations(module, name)
    return model
