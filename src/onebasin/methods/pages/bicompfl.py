"""BiCompFL with global randomness: masks by minimal random coding, whose indices are forwarded to all clients.

Egger, Bitar, Wachter-Zeh, Weinberger, Gunduz: BICompFL. 2025 (arXiv 2502.00206), the variant GR.

Assumptions, where the paper is silent and no code is known: probabilities start at 0.5 and are the mean of the round's
masks, clipped to [0.01, 0.99]; segments are as long as their divergence permits (stage `mrc`), not of one length; a
client receives all indices, including its own, so that all clients receive the same message.
"""

from onebasin.learning.parametrizations.supermask import Supermask
from onebasin.methods.aggregation.beta_posterior import BetaPosterior
from onebasin.methods.method import Method
from onebasin.methods.page import Page

PAGE = Page(
    method=Method(
        name="bicompfl",
        start="shared-seed",
        parametrization=Supermask(),
        uplink="mrc",
        downlink="relay",
        combine=BetaPosterior(),
    ),
    summary="Masks by minimal random coding in both directions (Egger et al. 2025).",
    settings={"training": {"optimizer": "adam", "lr": 0.1, "batch": 128, "epochs": 3}},
)
