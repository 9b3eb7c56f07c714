"""FedAvgM: momentum on the server.

Hsu, Qi, Brown: Measuring the Effects of Non-Identical Data Distribution for Federated Visual Classification. 2019
(arXiv 1909.06335), section 4.3: v <- beta v + dw, w <- w - v; the paper tries beta from 0 to 0.997.
"""

from onebasin.methods.aggregation.momentum import Momentum
from onebasin.methods.method import Method
from onebasin.methods.page import Page

PAGE = Page(
    method=Method(name="fedavgm", combine=Momentum(rate=1.0, beta=0.9)),
    summary="FedAvg with momentum on the server (Hsu et al. 2019).",
)
