"""FedPAQ: FedAvg with stochastically rounded updates, which are unbiased.

Reisizadeh, Mokhtari, Hassani, Jadbabaie, Pedarsani: FedPAQ: A Communication-Efficient Federated Learning Method with
Periodic Averaging and Quantization. AISTATS 2020 (arXiv 1909.13014), algorithm 1, with the quantiser of QSGD
(Alistarh et al. 2017, arXiv 1610.02132). As in the paper, the downlink is not compressed.
"""

from onebasin.methods.method import Method
from onebasin.methods.page import Page

PAGE = Page(
    method=Method(name="fedpaq", start="shared-seed", uplink="qsgd 8"),
    summary="Stochastically rounded updates, QSGD's quantiser (Reisizadeh et al. 2020).",
)
