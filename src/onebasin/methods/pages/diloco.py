"""DiLoCo: many inner AdamW steps on each client, then one Nesterov step on the server.

Douillard, Feng, Rusu, Chhaparia, Donchev, Kuncoro, Ranzato, Szlam, Shen: DiLoCo: Distributed Low-Communication
Training of Language Models. 2023 (arXiv 2311.08105), algorithm 1: inner AdamW whose state stays with the worker,
outer Nesterov momentum with rate 0.7 and momentum 0.9 (section 3), outer gradients averaged uniformly.
"""

from onebasin.methods.aggregation.nesterov import Nesterov
from onebasin.methods.method import Method
from onebasin.methods.page import Page

PAGE = Page(
    method=Method(name="diloco", combine=Nesterov(rate=0.7, beta=0.9)),
    summary="Inner AdamW, outer Nesterov (Douillard et al. 2023).",
    settings={
        "training": {"optimizer": "adamw", "lr": 1e-3, "weight_decay": 0.01, "keep_optimizer": True},
        "federation": {"weighting": "uniform"},
    },
)
