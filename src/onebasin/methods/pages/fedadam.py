"""FedAdam: Adam's step on the server, with the mean update as its gradient.

Reddi, Charles, Zaheer, Garrett, Rush, Konecny, Kumar, McMahan: Adaptive Federated Optimization. ICLR 2021
(arXiv 2003.00295), algorithm 2: m <- b1 m + (1-b1) d; v <- b2 v + (1-b2) d^2; x <- x + rate m / (sqrt(v) + tau);
b1 = 0.9, b2 = 0.99 as in the paper. No bias correction; v starts at tau^2, the smallest value that the paper allows.
"""

from onebasin.methods.aggregation.adam import Adam
from onebasin.methods.method import Method
from onebasin.methods.page import Page

PAGE = Page(
    method=Method(name="fedadam", combine=Adam()),
    summary="FedAvg with Adam's step on the server (Reddi et al. 2021).",
)
