"""DGC: the largest values of each tensor's update, with momentum on the client; the rest is kept as a residual.

Lin, Han, Mao, Wang, Dally: Deep Gradient Compression: Reducing the Communication Bandwidth for Distributed Training.
ICLR 2018 (arXiv 1712.01887), algorithm 1: momentum correction and factor masking. The downlink sends the mean update,
which is sparse, without loss. A momentum of 0.9 accumulates ten times the update over the rounds, so the server's rate
is 0.1; the effective rate is then that of FedAvg. The paper sends 0.1% of the values of models with millions of
parameters; here it is 1%, for small models.
"""

from onebasin.methods.aggregation.average import Average
from onebasin.methods.method import Method
from onebasin.methods.page import Page

PAGE = Page(
    method=Method(
        name="dgc",
        start="shared-seed",
        uplink="momentum-correction 0.9 | error-feedback | top-k 0.01 per=tensor | fp32",
        downlink="top-k 1.0 | fp32",
        combine=Average(rate=0.1),
    ),
    summary="Top-k with momentum correction and error feedback (Lin et al. 2018).",
)
