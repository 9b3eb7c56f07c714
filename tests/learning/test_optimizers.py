"""The optimisers of local training by name: which there are, and which arguments each gets."""

from typing import Any

import pytest
import torch
from torch import nn

from onebasin.core.settings import ConfigError
from onebasin.federation.read_config import read_config
from onebasin.learning.local_training import Training
from onebasin.learning.optimizers import OPTIMIZERS, build_optimizer, optimizer_class


def built(name: str, momentum: float = 0.0, weight_decay: float = 0.0, **options: Any) -> dict[str, Any]:
    """Return the optimiser's arguments."""
    parameter = nn.Parameter(torch.zeros(1))
    return build_optimizer(name, [parameter], 0.25, momentum, weight_decay, options).defaults


def test_short_names_are_pytorchs() -> None:
    assert dict(OPTIMIZERS) == {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    assert all(optimizer_class(name) is found for name, found in OPTIMIZERS.items())
    assert optimizer_class("torch.optim:RMSprop") is torch.optim.RMSprop


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("sdg", "expected one of sgd, adam, adamw, or package.module:Name such as torch.optim:RMSprop"),
        ("torch.optim:Missing", "'torch.optim' has no 'Missing'"),
        ("no_such_module:SGD", "module 'no_such_module' cannot be imported"),
        ("tests.user_code:CONSTANT", "is a int; expected an optimiser's class, or a function"),
    ],
)
def test_a_name_that_is_none_is_refused_when_the_recipe_is_read(name: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        optimizer_class(name)
    for field in ("optimizer", "warmup_optimizer"):
        with pytest.raises(ValueError, match=reason):
            Training.model_validate({field: name})


def test_momentum_is_given_to_sgd_alone_of_the_built_in_ones() -> None:
    sgd = built("sgd", momentum=0.5, weight_decay=0.125)
    assert (sgd["lr"], sgd["momentum"], sgd["weight_decay"]) == (0.25, 0.5, 0.125)
    for name in ("adam", "adamw"):
        given = built(name, momentum=0.5, weight_decay=0.125)
        assert (given["lr"], given["weight_decay"]) == (0.25, 0.125)
        assert "momentum" not in given


def test_no_decay_is_a_decay_of_zero_also_for_adamw() -> None:
    assert built("adamw")["weight_decay"] == 0.0


def test_options_reach_the_optimizer() -> None:
    assert built("adam", betas=(0.5, 0.75))["betas"] == (0.5, 0.75)
    assert built("torch.optim:RMSprop", alpha=0.5)["alpha"] == 0.5


@pytest.mark.parametrize(
    ("momentum", "decay", "expected"),
    [
        (0.0, 0.0, {"lr": 0.25}),
        (0.5, 0.0, {"lr": 0.25, "momentum": 0.5}),
        (0.0, 0.125, {"lr": 0.25, "weight_decay": 0.125}),
        (0.5, 0.125, {"lr": 0.25, "momentum": 0.5, "weight_decay": 0.125}),
    ],
)
def test_one_from_outside_gets_momentum_and_decay_only_where_they_are_not_zero(
    momentum: float, decay: float, expected: dict[str, float]
) -> None:
    parameter = nn.Parameter(torch.zeros(1))
    found = build_optimizer("tests.user_code:Recorded", [parameter], 0.25, momentum, decay, {})
    assert found.given == expected  # type: ignore[attr-defined]


@pytest.mark.parametrize("options", ["{foo = 1}", "{momentum = 0.9}"])
def test_options_that_an_optimizer_does_not_take_are_refused_beforehand(options: str) -> None:
    with pytest.raises(ConfigError, match=r"training\.optimizer='sgd' does not take optimizer_options="):
        read_config("fedavg", [f"training.optimizer_options={options}"])
