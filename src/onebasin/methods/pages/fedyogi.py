"""FedYogi: Yogi's step on the server, with the mean update as its gradient.

Reddi, Charles, Zaheer, Garrett, Rush, Konecny, Kumar, McMahan: Adaptive Federated Optimization. ICLR 2021
(arXiv 2003.00295), algorithm 2: as in FedAdam, but v <- v - (1-b2) d^2 sign(v - d^2).
"""

from onebasin.methods.aggregation.yogi import Yogi
from onebasin.methods.method import Method
from onebasin.methods.page import Page

PAGE = Page(
    method=Method(name="fedyogi", combine=Yogi()),
    summary="FedAvg with Yogi's step on the server (Reddi et al. 2021).",
)
