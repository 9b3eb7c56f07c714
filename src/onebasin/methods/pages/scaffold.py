"""SCAFFOLD: control variates correct the drift between clients whose data differ.

Karimireddy, Kale, Mohri, Reddi, Stich, Suresh: SCAFFOLD: Stochastic Controlled Averaging for Federated Learning.
ICML 2020 (arXiv 1910.06378), algorithm 1, option II: y_i <- y_i - lr (g_i(y_i) - c_i + c);
c_i+ = c_i - c + (x - y_i) / (K lr); x <- x + mean(y_i - x); c <- c + |S|/N mean(c_i+ - c_i).
Clients send both differences, and receive x and c: twice the bytes of FedAvg. A client changes its c_i by the decoded
difference, so that c is the mean of the c_i even with a lossy codec. Means are uniform, as in the paper.
"""

from onebasin.learning.objectives.control_variates import ControlVariates
from onebasin.methods.method import Method
from onebasin.methods.page import Page

PAGE = Page(
    method=Method(name="scaffold", objective=ControlVariates()),
    summary="FedAvg with control variates, twice the bytes (Karimireddy et al. 2020).",
    settings={"training": {"momentum": 0.0}, "federation": {"weighting": "uniform"}},
)
