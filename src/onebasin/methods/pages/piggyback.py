"""Piggyback: masks over one trained network; here many clients train one mask together.

Mallya, Davis, Lazebnik: Piggyback. ECCV 2018 (arXiv 1801.06519): a backbone that all hold, real scores that begin above
their threshold, straight-through gradients, a last layer of each task's own. The paper trains in one place
(``onebasin run centralised method.parametrization=backbone-mask task.weights=FILE``). Here clients send their masks, a
bit a weight at most, and their last layers; a weight is kept from then on as far as clients keep it. All of it is
relayed, so that the downlink is masks, too. Plain SGD drops fewer weights than Adam does: masks are shorter.
"""

from onebasin.learning.parametrizations.backbone_mask import BackboneMask
from onebasin.methods.aggregation.mean_mask import MeanMask
from onebasin.methods.method import Method
from onebasin.methods.page import Page

PAGE = Page(
    method=Method(
        name="piggyback",
        start="shared-seed",
        parametrization=BackboneMask(),
        uplink="threshold",
        downlink="relay",
        models="fp16",
        combine=MeanMask(),
    ),
    summary="Masks over a trained network that all hold: needs task.weights (Mallya et al. 2018).",
    settings={"training": {"lr": 0.1, "momentum": 0.9, "batch": 64}},
)
