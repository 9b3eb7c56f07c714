"""Piggyback: a mask over a trained network, which many clients train together here.

Mallya, Davis, Lazebnik: Piggyback. ECCV 2018 (arXiv 1801.06519): one backbone for all, real-valued scores that start
above the threshold, straight-through gradients, and a last layer for each task. The paper trains in one place
(``onebasin run centralised method.parametrization=backbone-mask task.weights=FILE``). Here clients send their masks, at
most one bit per weight, and the updates of their last layers. The next score of a weight follows from the share of
clients that keep it. The encoded updates are forwarded to all clients, so that the downlink, too, sends masks. Plain
SGD drops fewer weights than Adam, which makes masks shorter.
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
    summary="Masks over a trained network that all clients have: needs task.weights (Mallya et al. 2018).",
    settings={"training": {"lr": 0.1, "momentum": 0.9, "batch": 64}},
)
