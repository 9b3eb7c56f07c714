"""onebasin: clients begin from their own weights; a round trains a few parameters, and only those are sent.

Each client trains from its own random weights. The server asks the one with the most examples for the seed of these
and for what it learned, and all go on from there. In each round the run's seed draws the parameters that are trained:
as many of each tensor as of any other, and all of the small ones. All know which they are, so only values travel, in 3
bits or fewer; and since nothing else was trained, nothing is left unsaid. Small models want a larger share a round.

Rounds that train a part are from Wang et al.: Why Go Full? NeurIPS 2024 (arXiv 2410.11559), who take whole layers in
turn; Caldas et al. 2018 (arXiv 1812.07210) give each client another part.
"""

from onebasin.methods.method import Method
from onebasin.methods.page import Page

SENT = "random-k 0.05 shared=true spread=tensors | uniform 3"

PAGE = Page(
    method=Method(
        name="onebasin",
        start="local",
        frame="adopt-one",
        models="seeded",
        trains="sent",
        uplink=SENT,
        downlink=SENT,
    ),
    summary="Own starts; a few parameters are trained in a round, and nothing else is sent.",
    settings={
        "training": {"lr": 0.1, "momentum": 0.9, "batch": 64, "epochs": 5, "lr_decay": 0.9},
        "federation": {"rounds": 14},
    },
)
