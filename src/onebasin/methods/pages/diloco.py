"""DiLoCo: many local (inner) steps of AdamW on each client, then one outer step with Nesterov momentum on the server.

Douillard, Feng, Rusu, Chhaparia, Donchev, Kuncoro, Ranzato, Szlam, Shen: DiLoCo: Distributed Low-Communication
Training of Language Models. 2023 (arXiv 2311.08105), algorithm 1: clients keep the state of AdamW between rounds; the
outer learning rate is 0.7 and the outer momentum 0.9 (section 3); outer gradients are averaged uniformly.
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
