"""Probe inputs for language models: text that the models generate."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import onebasin as ob
from onebasin.alignment.probes import continued
from onebasin.core.settings import ConfigError
from onebasin.federation.run_config import RunConfig
from onebasin.learning.models import built_in


class NextToken(nn.Module):
    """Predicts that each of five tokens is followed by the token `step` further, or by any token if the step is 0."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.register_buffer("step", torch.tensor(step))

    def forward(self, text: Tensor) -> Tensor:
        one_hot = nn.functional.one_hot((text + self.step) % 5, 5).float()  # type: ignore[operator]
        return one_hot * 100.0 * (self.step != 0)  # type: ignore[operator]


def test_every_model_generates_an_equal_part() -> None:
    states = [NextToken(step).state_dict() for step in (1, 3)]
    text = continued(NextToken(1), states, 7, 5, 9, seed=0)
    assert text.shape == (9, 7)
    assert text.dtype == torch.int64
    assert torch.equal((text[:5, 1:] - text[:5, :-1]) % 5, torch.ones(5, 6, dtype=torch.int64))
    assert torch.equal((text[5:, 1:] - text[5:, :-1]) % 5, torch.full((4, 6), 3))
    assert torch.equal(text, continued(NextToken(1), states, 7, 5, 9, seed=0))
    assert not torch.equal(text[:, 0], continued(NextToken(1), states, 7, 5, 9, seed=1)[:, 0])


def test_tokens_have_the_predicted_frequencies() -> None:
    text = continued(NextToken(0), [NextToken(0).state_dict()], 101, 5, 100, seed=0)
    counts = torch.bincount(text.flatten(), minlength=5)
    assert counts.sum() == 10_100
    assert all(abs(int(count) - 2020) < 5 * 40 for count in counts)  # five standard deviations


def test_more_models_than_sequences() -> None:
    states = [NextToken(step).state_dict() for step in (1, 2, 3)]
    assert continued(NextToken(1), states, 4, 5, 2, seed=0).shape == (2, 4)
    assert continued(NextToken(1), states, 1, 5, 3, seed=0).shape == (3, 1)


def test_a_recurrent_network_generates_tokens_of_its_vocabulary() -> None:
    model = built_in("gru", (80,), 65, {})
    text = continued(model, [model.state_dict()], 12, 65, 3, seed=0)
    assert 0 <= int(text.min()) <= int(text.max()) < 65


def test_generated_probes_are_refused_for_images(quick_config: Callable[..., RunConfig], tmp_path: Path) -> None:
    config = quick_config("fedavg", "method.combine=least-squares", "method.probes=generated")
    with pytest.raises(ConfigError, match="'generated' is text that language models write; digits has none"):
        ob.run(config, out=tmp_path / "run")
