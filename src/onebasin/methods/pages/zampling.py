"""Zampling: FedPM with fewer probabilities than weights; a fixed sparse matrix makes the weights from a shorter mask.

Villani, Natale, Mallmann-Trenn: Trading-off Accuracy and Communication Cost in Federated Learning. 2025 (arXiv
2503.14246). Assumptions about parts of the paper that we have not read: each layer has its own probabilities; the
entries of the mask for a weight are drawn with replacement; probabilities are logistic functions of scores; training is
that of FedPM. The downlink sends the scores in fp32, and is charged.
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
    summary="FedPM with fewer mask bits than weights, from which a sparse matrix computes them (Villani et al. 2025).",
    settings={"training": {"optimizer": "adam", "lr": 0.1, "batch": 128, "epochs": 3}},
)
