"""FedMask: each client has its own mask over weights that all share; only masks are sent, in both directions.

A. Li, Sun, Zeng, Zhang, H. Li, Chen: FedMask: Joint Computation and Communication-Efficient Personalized Federated
Learning via Heterogeneous Masking. SenSys 2021 (doi 10.1145/3485730.3485929). From its abstract: parameters that never
change; one bit for each of them, learned by each device; only binary masks are communicated; every device ends with a
personalised model.

Known from other works only: scores with straight-through gradients; the server averages masks where more than one
client keeps an element, and the rest stays personal.

Not known, and chosen here: the fixed weights (random, of one magnitude per layer, no biases); that all layers are
masked; that the average is rounded (`combine.share`), so that the downlink, too, sends masks; that in the overlap a
client's score keeps its value if it agrees with the server, and changes its sign if not; optimiser and rates.

Left out: the one-shot pruning of whole structures at the start, with which the paper saves computation.
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
    summary="One mask per client over shared random weights (A. Li et al. 2021).",
    settings={
        "training": {"optimizer": "adam", "lr": 0.001, "epochs": 5},
        "federation": {"weighting": "uniform"},
    },
)
