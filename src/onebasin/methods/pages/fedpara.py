"""FedPara: clients train, and the server averages, low-rank factors, whose Hadamard products are the weights.

Hyeon-Woo, Ye-Bin, Oh: FedPara: Low-Rank Hadamard Product for Communication-Efficient Federated Learning. ICLR 2022
(arXiv 2108.06098), propositions 1 and 3. Weights for which factors would save no parameters stay dense. The factors are
initialised so that the weights have the variance of PyTorch's initialisation.
"""

from onebasin.learning.parametrizations.low_rank import LowRank
from onebasin.methods.method import Method
from onebasin.methods.page import Page

PAGE = Page(
    method=Method(name="fedpara", start="shared-seed", parametrization=LowRank()),
    summary="Low-rank factors of the weights are trained and averaged (Hyeon-Woo et al. 2022).",
)
