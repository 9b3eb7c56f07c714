"""FedPM: clients draw masks from trained chances, and the mean of the masks is the next chance of each weight.

Isik, Pase, Gunduz, Weissman, Zorzi: Sparse Random Networks for Communication-Efficient Federated Learning. ICLR 2023
(arXiv 2209.15328), algorithms 1 and 2: random weights of one magnitude, 3 local epochs, batches of 128, Adam on the
scores, and a posterior that begins anew in each round (all clients take part). The masks are range-coded here; the
paper gives their entropy. Its downlink is fp32, and is charged.
"""

from onebasin.learning.parametrizations.supermask import Supermask
from onebasin.methods.aggregation.beta_posterior import BetaPosterior
from onebasin.methods.method import Method
from onebasin.methods.page import Page

PAGE = Page(
    method=Method(
        name="fedpm", start="shared-seed", parametrization=Supermask(), uplink="mask", combine=BetaPosterior()
    ),
    summary="Masks over random weights, drawn and averaged (Isik et al. 2023).",
    settings={"training": {"optimizer": "adam", "lr": 0.1, "batch": 128, "epochs": 3}},
)
