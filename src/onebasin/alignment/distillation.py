"""Distillation: gradient descent of a merged model on the ensemble's outputs for probes.

It improves on the closed forms. Hinton, Vinyals, Dean: Distilling the Knowledge in a Neural Network. 2015 (arXiv
1503.02531); as a server step without labels: Lin, Kong, Stich, Jaggi: Ensemble Distillation for Robust Model Fusion in
Federated Learning (FedDF). NeurIPS 2020 (arXiv 2006.07242), algorithm 1.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from onebasin.alignment.models import (
    AlignmentError,
    StateDict,
    check_finite,
    model_parameters,
    with_all_names,
    without_duplicates,
)
from onebasin.core.seeds import generator
from onebasin.networks.evaluation_mode import evaluation_mode
from onebasin.networks.functional_call import stateless_call

BATCH = 256
RATE = 1e-3


def distil(
    model: nn.Module, state: StateDict, inputs: Tensor, teach: Tensor, steps: int, seed: int = 0
) -> dict[str, Tensor]:
    """Return the state after `steps` steps of Adam on the divergence from softmax(teach), with a cosine learning rate.

    inputs: probes [n, ...]. teach: target logits for them [n, ..., classes]. seed: of the batches. The model runs in
    evaluation mode, so its buffers stay unchanged.
    Errors: `AlignmentError` if the numbers of inputs and targets differ or the result is not finite.
    """
    if len(inputs) != len(teach) or not len(inputs):
        raise AlignmentError(f"teach: {len(teach)} rows for {len(inputs)} inputs; expected one for each")
    original, state = state, without_duplicates(model, state)
    weights = {name: value.detach().clone().requires_grad_() for name, value in model_parameters(model, state).items()}
    other_tensors = {name: value for name, value in state.items() if name not in weights}
    optimizer = torch.optim.Adam(weights.values(), RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(steps, 1))
    targets, rng = F.log_softmax(teach.float(), -1), generator(seed, "distil")
    with evaluation_mode(model), torch.enable_grad():
        for _ in range(steps):
            batch = torch.randint(len(inputs), (min(BATCH, len(inputs)),), generator=rng)
            log_probabilities = F.log_softmax(stateless_call(model, {**other_tensors, **weights}, (inputs[batch],)), -1)
            divergence = F.kl_div(log_probabilities, targets[batch], reduction="none", log_target=True)
            loss = divergence.sum(-1).mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    trained_weights = {name: value.detach() for name, value in weights.items()}
    check_finite(trained_weights, "distilled")
    after = {name: trained_weights[name] if name in trained_weights else value.clone() for name, value in state.items()}
    return with_all_names(model, original, after)
