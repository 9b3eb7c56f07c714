"""KLMS: FedPM with masks encoded by minimal random coding, relative to the probabilities that both sides know.

Isik, Pase, Gunduz, Koyejo, Weissman, Zorzi: Adaptive Compression in Federated Learning via Side Information. AISTATS
2024 (arXiv 2306.12625). The paper simulates the candidates; here they are drawn, and the index of one is sent. The
downlink is fp32, as in the paper, and is charged.
"""

from onebasin.learning.parametrizations.supermask import Supermask
from onebasin.methods.aggregation.beta_posterior import BetaPosterior
from onebasin.methods.method import Method
from onebasin.methods.page import Page

PAGE = Page(
    method=Method(name="klms", start="shared-seed", parametrization=Supermask(), uplink="mrc", combine=BetaPosterior()),
    summary="FedPM; each segment of a mask is coded as one of 256 candidates (Isik et al. 2024).",
    settings={"training": {"optimizer": "adam", "lr": 0.1, "batch": 128, "epochs": 3}},
)
