"""signSGD with majority vote: clients send the signs of their updates, the server sends those of the majority.

Bernstein, Wang, Azizzadenesheli, Anandkumar: signSGD: Compressed Optimisation for Non-Convex Problems. ICML 2018 (arXiv
1802.04434), algorithm 1, distributed training by majority vote. One bit per value in each direction.
"""

from onebasin.methods.aggregation.majority_vote import MajorityVote
from onebasin.methods.method import Method
from onebasin.methods.page import Page

PAGE = Page(
    method=Method(
        name="signsgd",
        start="shared-seed",
        uplink="sign one",
        downlink="sign",
        combine=MajorityVote(),
    ),
    summary="Signs on the uplink, the majority's signs on the downlink (Bernstein et al. 2018).",
    settings={"federation": {"weighting": "uniform"}},
)
