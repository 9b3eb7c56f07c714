"""FedMRN: a client's update is a mask over noise that the server draws, too, and is trained to be one.

Li, Cheng, Wang, Tang, Xu, Luo, Li, Liu, He, Li: Masked Random Noise for Communication-Efficient Federated Learning.
ACM Multimedia 2024 (arXiv 2408.03220): stochastic masking of the update in the forward pass, whose gradient passes
straight through; progressive masking, of a share t / T of the values in step t of T; uniform noise; SGD at a rate of
0.1, batches of 64, 10 local epochs. Each round and client has noise of its own, whose seed follows from the run's and
is not sent; the masks are range-coded here. The downlink is fp32, as theirs, and is charged.

The magnitude bounds what a round can change. Theirs is 0.01 for masks of 0 and 1 and 0.005 for signed ones, over 100
rounds of Fashion-MNIST; in tens of rounds, ten times as much was better here (docs/codecs.md).

Assumed: that biases and normalisations are masked like all else (the paper's networks have no biases, and its code
sends the normalisations' parameters as they are). The mask that is sent is drawn anew after the last step, as in its
code; training goes on from the update itself, not from what was masked or cut off of it.
"""

from onebasin.learning.parametrizations.masked_noise import MaskedNoise
from onebasin.methods.method import Method
from onebasin.methods.page import Page

PAGE = Page(
    method=Method(
        name="fedmrn", start="shared-seed", parametrization=MaskedNoise(), uplink="masked-noise 0.05 mask=signed"
    ),
    summary="Updates trained to be masks over seeded noise (Li et al. 2024).",
    settings={"training": {"lr": 0.1, "batch": 64, "epochs": 10}},
)
