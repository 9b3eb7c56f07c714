"""FedProx: FedAvg with a proximal term that keeps clients close to the model that they received.

Li, Sahu, Zaheer, Sanjabi, Talwalkar, Smith: Federated Optimization in Heterogeneous Networks. MLSys 2020
(arXiv 1812.06127), algorithm 2: the client minimises F_k(w) + mu/2 |w - w_t|^2. The paper tries mu from 0.001 to 1.
"""

from onebasin.learning.objectives.proximal import Proximal
from onebasin.methods.method import Method
from onebasin.methods.page import Page

PAGE = Page(
    method=Method(name="fedprox", objective=Proximal(mu=0.01)),
    summary="FedAvg with a proximal term (Li et al. 2020).",
)
