"""Zampling: FedPM on fewer chances than weights, whose draws a fixed sparse matrix makes the weights of.

Villani, Natale, Mallmann-Trenn: Trading-off Accuracy and Communication Cost in Federated Learning. 2025 (arXiv
2503.14246). Assumed, where we have not read it: that each layer has chances of its own, that a weight draws its places
with replacement, that chances are logistic scores and the training is that of FedPM. The downlink is fp32, of the
chances, and is charged.
"""

from onebasin.learning.parametrizations.sparse_combination import SparseCombination
from onebasin.methods.aggregation.beta_posterior import BetaPosterior
from onebasin.methods.method import Method
from onebasin.methods.page import Page

PAGE = Page(
    method=Method(
        name="zampling",
        start="shared-seed",
        parametrization=SparseCombination(),
        uplink="mask",
        combine=BetaPosterior(),
    ),
    summary="FedPM's masks, fewer than weights, combined by a sparse matrix (Villani et al. 2025).",
    settings={"training": {"optimizer": "adam", "lr": 0.1, "batch": 128, "epochs": 3}},
)
