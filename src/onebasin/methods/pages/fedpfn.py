"""FedPFN: a part of each layer is fixed to constants that all clients share, which aligns neurons during training.

Li, Li, Lin, Shen, Xiao, Guo, Lin, Wu: Improving Model Fusion by Training-time Neuron Alignment with Fixed Neuron
Anchors. 2024 (arXiv 2402.01342), first published as Training-time Neuron Alignment through Permutation Subspace. As in
the paper, 40% of the weights are fixed. The constants are as large as initial weights; larger ones align better
(docs/alignment.md).

Assumptions about parts of the paper that we have not read: the same positions are fixed in all rounds (with
``trains="sent"`` and the uplink `random-k 0.6 shared=true | fp32`, other positions are fixed in each round), and all
clients have the same constants there, which are not sent.
"""

from onebasin.learning.parametrizations.anchored import Anchored
from onebasin.methods.method import Method
from onebasin.methods.page import Page

PAGE = Page(
    method=Method(name="fedpfn", start="local", parametrization=Anchored()),
    summary="Own initialisations; a part of each layer is fixed to the same constants on all clients (Li et al. 2024).",
)
