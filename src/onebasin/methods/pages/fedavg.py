"""FedAvg: clients train the server's model on their own data; the server averages what changed.

McMahan, Moore, Ramage, Hampson, Agueera y Arcas: Communication-Efficient Learning of Deep Networks from Decentralized
Data. AISTATS 2017 (arXiv 1602.05629), algorithm 1. `start` chooses how the common beginning is agreed on:
`broadcast` (as in the paper, charged), `shared-seed` (8 bytes), or `local`: none, every client begins from its own
weights and the server averages the models naively, which section 2 of the paper (figure 1) shows to fail.
"""

from onebasin.methods.method import Method
from onebasin.methods.page import Page

PAGE = Page(
    method=Method(name="fedavg"),
    summary="Average the clients' updates (McMahan et al. 2017).",
)
