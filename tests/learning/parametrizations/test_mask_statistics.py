import torch

from onebasin.learning.masks.mask_statistics import kept_by_layer


def test_scores_above_zero_are_kept_and_an_open_chance_is_one_bit() -> None:
    name = "fc1.parametrizations.weight.original"
    certain = 40.0
    parameters = {name: torch.tensor([[0.0, 0.0], [certain, -certain]]), "fc2.weight": torch.ones(3)}
    assert kept_by_layer(parameters, stochastic=False) == {"fc1": {"kept": 0.25}}
    statistics = kept_by_layer(parameters, stochastic=True)["fc1"]
    assert statistics["kept"] == 0.25
    assert abs(statistics["entropy"] - 0.5) < 1e-12


def test_a_quarter_takes_its_binary_entropy() -> None:
    scores = torch.logit(torch.full((5,), 0.25, dtype=torch.float64))
    statistics = kept_by_layer({"parametrizations.weight.original": scores}, stochastic=True)
    assert abs(statistics[""]["entropy"] - 0.8112781244591328) < 1e-12


def test_a_model_without_scores_has_no_masks() -> None:
    assert kept_by_layer({"fc1.weight": torch.ones(2, 2)}, stochastic=True) == {}
