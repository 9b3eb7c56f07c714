"""Distillation: a merged model learns, on probes and by gradient descent, to say what the models say together.

What closed forms leave undone: Hinton, Vinyals, Dean: Distilling the Knowledge in a Neural Network. 2015 (arXiv
1503.02531); as a server's step, without labels: Lin, Kong, Stich, Jaggi: Ensemble Distillation for Robust Model Fusion
in Federated Learning (FedDF). NeurIPS 2020 (arXiv 2006.07242), algorithm 1.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from onebasin.alignment.models import AlignmentError, State, check_finite, each_once, named_like, trained
from onebasin.core.seeds import generator
from onebasin.networks.evaluation_mode import evaluation_mode
from onebasin.networks.functional_call import stateless_call

BATCH = 256
RATE = 1e-3


def distil(
    model: nn.Module, state: State, inputs: Tensor, teach: Tensor, steps: int, seed: int = 0
) -> dict[str, Tensor]:
    """Return the state after so many steps of Adam on the divergence from softmax(teach); the rate falls as a cosine.

    inputs: probes [n, ...]; teach: logits for them [n, ..., classes]. The model runs in evaluation mode: its buffers
    stay as they are. Errors: `AlignmentError` when the numbers do not fit or the result is not finite.
    """
    if len(inputs) != len(teach) or not len(inputs):
        raise AlignmentError(f"teach: {len(teach)} rows for {len(inputs)} inputs; expected one for each")
    given, state = state, each_once(model, state)
    weights = {name: value.detach().clone().requires_grad_() for name, value in trained(model, state).items()}
    rest = {name: value for name, value in state.items() if name not in weights}
    optimizer = torch.optim.Adam(weights.values(), RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(steps, 1))
    wanted, draws = F.log_softmax(teach.float(), -1), generator(seed, "distil")
    with evaluation_mode(model), torch.enable_grad():
        for _ in range(steps):
            batch = torch.randint(len(inputs), (min(BATCH, len(inputs)),), generator=draws)
            said = F.log_softmax(stateless_call(model, {**rest, **weights}, (inputs[batch],)), -1)
            loss = F.kl_div(said, wanted[batch], reduction="none", log_target=True).sum(-1).mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    learned = {name: value.detach() for name, value in weights.items()}
    check_finite(learned, "distilled")
    after = {name: learned[name] if name in learned else value.clone() for name, value in state.items()}
    return named_like(model, given, after)
