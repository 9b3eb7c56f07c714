"""FedMask: every client has a mask of its own over weights that all hold, and only masks travel, both ways.

A. Li, Sun, Zeng, Zhang, H. Li, Chen: FedMask: Joint Computation and Communication-Efficient Personalized Federated
Learning via Heterogeneous Masking. SenSys 2021 (doi 10.1145/3485730.3485929). From its abstract: parameters that never
change, one bit for each, learned by each device; nothing but the binary masks is communicated; every device ends with
a personalised model.

Known at second hand only: scores with straight-through gradients; the server averages masks where more than one client
keeps an element, and what no other client keeps stays personal. Not known, and chosen here: the frozen weights
(a seed's, one magnitude a layer, no biases) and that all layers are masked; the average is rounded (`combine.share`),
so that masks travel down, too; in the overlap a client's score that agrees stays, one that does not is turned;
optimiser and rates. Left out: the one-shot pruning of whole structures at the start, and with it what the paper saves
in computing.
"""

from onebasin.learning.parametrizations.supermask import Supermask
from onebasin.methods.aggregation.overlap import Overlap
from onebasin.methods.method import Method
from onebasin.methods.page import Page

PAGE = Page(
    method=Method(
        name="fedmask",
        start="shared-seed",
        parametrization=Supermask(kept="above-zero"),
        uplink="threshold",
        downlink="ternary",
        combine=Overlap(),
        score="personal",
    ),
    summary="A mask of each client's own over shared random weights (A. Li et al. 2021).",
    settings={
        "training": {"optimizer": "adam", "lr": 0.001, "epochs": 5},
        "federation": {"weighting": "uniform"},
    },
)
