"""FedMRN: a client's update is sent as a mask over noise that the server draws alike, and is trained for that.

Li, Cheng, Wang, Tang, Xu, Luo, Li, Liu, He, Li: Masked Random Noise for Communication-Efficient Federated Learning.
ACM Multimedia 2024 (arXiv 2408.03220): stochastic masking of the update in the forward pass, with straight-through
gradients; progressive masking, of a share t / T of the values in step t of T; uniform noise; SGD with a rate of 0.1,
batches of 64, 10 local epochs. Each client has other noise in each round; its seed follows from the run's and is not
sent. Masks are range-coded here. The downlink is fp32, as in the paper, and is charged.

The magnitude of the noise bounds the change in a round. In the paper it is 0.01 for masks of 0 and 1, and 0.005 for
signed masks, over 100 rounds on Fashion-MNIST. With tens of rounds, a magnitude ten times as large was better here
(docs/codecs.md).

Assumption: biases and the parameters of normalisations are masked like all others (the paper's networks have no biases,
and its code sends the parameters of normalisations unmasked). As in its code, the mask that is sent is drawn after the
last step, and training continues from the update itself, not from its masked or clipped values.
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
