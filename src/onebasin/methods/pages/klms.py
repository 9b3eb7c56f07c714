"""KLMS: FedPM whose masks are told by minimal random coding, from the chances that both sides hold.

Isik, Pase, Gunduz, Koyejo, Weissman, Zorzi: Adaptive Compression in Federated Learning via Side Information. AISTATS
2024 (arXiv 2306.12625). Their candidates are simulated; these are drawn, chosen and told. The downlink is fp32, as
theirs, and is charged.
"""

from onebasin.learning.parametrizations.supermask import Supermask
from onebasin.methods.aggregation.beta_posterior import BetaPosterior
from onebasin.methods.method import Method
from onebasin.methods.page import Page

PAGE = Page(
    method=Method(name="klms", start="shared-seed", parametrization=Supermask(), uplink="mrc", combine=BetaPosterior()),
    summary="FedPM's masks as one of 256 candidates a stretch (Isik et al. 2024).",
    settings={"training": {"optimizer": "adam", "lr": 0.1, "batch": 128, "epochs": 3}},
)
