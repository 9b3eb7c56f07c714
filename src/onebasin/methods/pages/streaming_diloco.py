"""Streaming DiLoCo: DiLoCo that sends one fragment of the model per round, in 4 bits per value.

Douillard et al.: Streaming DiLoCo with Overlapping Communication: Towards a Distributed Free Lunch. 2025 (arXiv
2501.18512), sections 2.2 and 2.4. Communication does not overlap with training here, since its cost is counted in
bytes. Clients start each round from the global model, so that changes outside the fragment must be learned again. Error
feedback would not help: the same change would accumulate in each round until its fragment is sent.
"""

from onebasin.methods.aggregation.nesterov import Nesterov
from onebasin.methods.method import Method
from onebasin.methods.page import Page

PAGE = Page(
    method=Method(
        name="streaming-diloco",
        start="shared-seed",
        uplink="fragment 4 by=tensor | uniform 4",
        downlink="fragment 4 by=tensor | uniform 4",
        combine=Nesterov(rate=0.7, beta=0.9),
    ),
    summary="DiLoCo, one fragment per round in 4 bits (Douillard et al. 2025).",
    settings={
        "training": {"optimizer": "adamw", "lr": 1e-3, "weight_decay": 0.01, "keep_optimizer": True},
        "federation": {"weighting": "uniform"},
    },
)
