"""FedPM: clients train probabilities and send masks drawn from them; the mean mask has the next probabilities.

Isik, Pase, Gunduz, Weissman, Zorzi: Sparse Random Networks for Communication-Efficient Federated Learning. ICLR 2023
(arXiv 2209.15328), algorithms 1 and 2: random weights of one magnitude, 3 local epochs, batches of 128, Adam on the
scores, and a posterior that is reset in each round (all clients take part). Masks are range-coded here; the paper
reports their entropy. The downlink is fp32, as in the paper, and is charged.
"""

from onebasin.learning.parametrizations.supermask import Supermask
from onebasin.methods.aggregation.beta_posterior import BetaPosterior
from onebasin.methods.method import Method
from onebasin.methods.page import Page

PAGE = Page(
    method=Method(
        name="fedpm", start="shared-seed", parametrization=Supermask(), uplink="mask", combine=BetaPosterior()
    ),
    summary="Masks over random weights are sampled and averaged (Isik et al. 2023).",
    settings={"training": {"optimizer": "adam", "lr": 0.1, "batch": 128, "epochs": 3}},
)
