"""FedPFN: a part of each layer is fixed, alike for all, so that neurons stay in one order while models train apart.

Li, Li, Lin, Shen, Xiao, Guo, Lin, Wu: Improving Model Fusion by Training-time Neuron Alignment with Fixed Neuron
Anchors. 2024 (arXiv 2402.01342), at first: Training-time Neuron Alignment through Permutation Subspace; 0.4 of the
weights are fixed there, too. Constants are as large as initial weights; larger ones hold better (docs/alignment.md).

Assumed, where we have not read it: that the same places are fixed in all rounds (`trains="sent"` with an uplink of
`random-k 0.6 shared=true | fp32` has others in each), and that all have the same constants there, which do not travel.
"""

from onebasin.learning.parametrizations.anchored import Anchored
from onebasin.methods.method import Method
from onebasin.methods.page import Page

PAGE = Page(
    method=Method(name="fedpfn", start="local", parametrization=Anchored()),
    summary="Own starts; a part of each layer is fixed, alike for all (Li et al. 2024).",
)
