"""BiCompFL with global randomness: masks by minimal random coding, passed on to all as the indices that came.

Egger, Bitar, Wachter-Zeh, Weinberger, Gunduz: BICompFL. 2025 (arXiv 2502.00206), the variant GR. Assumed here, where
the paper leaves it open or no code is known: chances begin at one half and are the mean of the round's masks, kept
within 0.01 and 0.99; stretches are as long as their divergence permits (`mrc`), not of one size; a client gets all
indices, its own too, so that one message serves all.
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
