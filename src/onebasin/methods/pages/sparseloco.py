"""SparseLoCo: long local phases as in DiLoCo; the largest 1 to 3% of the update, in 2 bits, with error feedback.

Sarfi, Therien, Lidin, Belilovsky: Communication Efficient LLM Pre-training with SparseLoCo. 2025 (arXiv 2508.15706),
algorithm 1: error feedback with decay 0.95, top-k per tensor, 2-bit values, outer rate 1 without momentum. The downlink
sends the mean update, which is sparse, in half precision. The four levels are fitted to the values of each message.
"""

from onebasin.methods.method import Method
from onebasin.methods.page import Page

PAGE = Page(
    method=Method(
        name="sparseloco",
        start="shared-seed",
        uplink="error-feedback 0.95 | top-k 0.02 per=tensor | lloyd 2",
        downlink="error-feedback | top-k 1.0 | fp16",
    ),
    summary="Top-k, 2 bits and error feedback after long local phases (Sarfi et al. 2025).",
    settings={
        "training": {"optimizer": "adamw", "lr": 1e-3, "weight_decay": 0.01, "keep_optimizer": True},
        "federation": {"weighting": "uniform"},
    },
)
