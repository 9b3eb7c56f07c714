"""onebasin: clients start from their own initialisations; a round trains a few parameters, and only those are sent.

Each client first trains its own initialisation. The server requests the seed of the initialisation, and the change
since, from the client with the most examples; this is the first global model. In each later round, the run's seed
selects the parameters that are trained: equally many of each tensor, and all of a small one. All sides know which these
are, so only their values are sent, in at most 3 bits each. Since no other parameter was trained, there is no residual.
Small models need a larger share of the parameters per round.

Training a part of the parameters per round is from Wang et al.: Why Go Full? NeurIPS 2024 (arXiv 2410.11559), who train
whole layers in turn; in Caldas et al. 2018 (arXiv 1812.07210) each client trains another part.
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
    summary="Own initialisations; a round trains a few parameters and sends only those.",
    settings={
        "training": {"lr": 0.1, "momentum": 0.9, "batch": 64, "epochs": 5, "lr_decay": 0.9},
        "federation": {"rounds": 14},
    },
)
