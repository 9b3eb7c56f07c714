"""FedAvg: clients train the global model on their own data; the server averages their updates.

McMahan, Moore, Ramage, Hampson, Aguera y Arcas: Communication-Efficient Learning of Deep Networks from Decentralized
Data. AISTATS 2017 (arXiv 1602.05629), algorithm 1. `start` chooses the initial weights: `broadcast` (sent and charged,
as in the paper), `shared-seed` (8 bytes), or `local`: each client has its own initialisation, and the server averages
the models naively, which fails, as section 2 of the paper (figure 1) shows.
"""

from onebasin.methods.method import Method
from onebasin.methods.page import Page

PAGE = Page(
    method=Method(name="fedavg"),
    summary="Average the clients' updates (McMahan et al. 2017).",
)
