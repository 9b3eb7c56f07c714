from typing import Annotated

import pytest
from pydantic import SerializeAsAny, ValidationError
from tests.core.conftest import MakePackage

from onebasin.core.choices import NESTED, OpenChoice
from onebasin.core.registry import Registry
from onebasin.core.settings import Choice, ConfigError, Settings
from onebasin.core.tables import validate

RULES = {
    "average.py": """
        from onebasin.core.settings import Choice

        class Average(Choice):
            pass
    """,
    "momentum.py": """
        from typing import Annotated
        from pydantic import model_validator
        from onebasin.core.settings import Choice, Fraction, Positive

        class Momentum(Choice):
            beta: Fraction = 0.9
            rate: Positive = 1.0

            @model_validator(mode="after")
            def _is_stable(self):
                if self.rate > 100 * (1 - self.beta):
                    raise ValueError("The steps are too long")
                return self
    """,
}


class Rule(Choice):
    """A base class of choices."""


class Other(Choice):
    """A choice that is not derived from `Rule`."""


@pytest.fixture
def run(make_package: MakePackage) -> type[Settings]:
    """Return the settings of a run, in whose method `combine` is an open choice."""
    rules: Registry[Choice] = Registry("combine", Choice, make_package(RULES))

    class Method(Settings):
        combine: Annotated[SerializeAsAny[Choice], OpenChoice(rules)] = rules.find("average")(kind="average")

    class Run(Settings):
        method: Method = Method()

    return Run


def combine(run: type[Settings], value: object) -> Choice:
    """Return the choice that is read from a value."""
    found: Choice = validate(run, {"method": {"combine": value}}).method.combine  # type: ignore[attr-defined]
    return found


def test_a_name_and_a_table_are_read_as_the_class_of_that_name(run: type[Settings]) -> None:
    by_name = combine(run, "momentum")
    assert type(by_name).__name__ == "Momentum"
    assert by_name.model_dump() == {"kind": "momentum", "beta": 0.9, "rate": 1.0}
    assert combine(run, {"kind": "momentum", "beta": 0.5}).model_dump() == {
        "kind": "momentum",
        "beta": 0.5,
        "rate": 1.0,
    }
    assert type(validate(run, {}).method.combine).__name__ == "Average"  # type: ignore[attr-defined]


def test_a_reference_is_read_as_the_class_that_it_names(run: type[Settings], make_package: MakePackage) -> None:
    text = "from onebasin.core.settings import Choice\nclass Median(Choice):\n    least: int = 3\n"
    name = make_package({"robust.py": text}) + ".robust:Median"
    assert combine(run, name).model_dump() == {"kind": name, "least": 3}
    assert combine(run, {"kind": name, "least": 5}).model_dump() == {"kind": name, "least": 5}


def test_an_instance_is_taken_as_it_is(run: type[Settings]) -> None:
    momentum = combine(run, {"kind": "momentum", "beta": 0.25})
    assert combine(run, momentum) is momentum


def test_an_instance_of_a_class_that_the_field_does_not_take_is_refused(make_package: MakePackage) -> None:
    class Method(Settings):
        combine: Annotated[Rule, OpenChoice(Registry("combine", Rule, make_package({})))]

    assert validate(Method, {"combine": Rule(kind="own")}).combine == Rule(kind="own")
    with pytest.raises(ConfigError, match="combine: input should be a valid dictionary or instance of Rule"):
        validate(Method, {"combine": Other(kind="other")})


def test_settings_of_a_choice_are_dumped_with_their_own_fields(run: type[Settings]) -> None:
    settings = validate(run, {"method": {"combine": {"kind": "momentum", "rate": 2.0}}})
    assert settings.model_dump() == {"method": {"combine": {"kind": "momentum", "beta": 0.9, "rate": 2.0}}}
    assert validate(run, settings.model_dump()) == settings


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("mean", "method.combine: got 'mean'; expected one of average, momentum, or package.module:Name"),
        ({"kind": "mean"}, "method.combine: got 'mean'; expected one of average, momentum, or package.module:Name"),
        (3, "method.combine: got 3; expected a name, or a table with its kind and settings"),
        ({"beta": 0.5}, "method.combine: expected a name, or a table with its kind and settings"),
        ({"kind": 3}, "method.combine: expected a name, or a table with its kind and settings"),
        (
            "pathlib:no_such",
            "method.combine: got 'pathlib:no_such'; 'pathlib:no_such': 'pathlib' has no 'no_such'",
        ),
        (
            {"kind": "math:pi"},
            "method.combine: got 'math:pi'; 'math:pi' is 3.141592653589793; "
            "expected a subclass of onebasin.core.settings.Choice",
        ),
    ],
)
def test_the_error_for_a_wrong_name_is_a_sentence_on_the_field(
    run: type[Settings], value: object, problem: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        combine(run, value)
    assert str(raised.value) == problem


@pytest.mark.parametrize(
    ("settings", "problems"),
    [
        ({"beta": 3.0}, ["method.combine.momentum.beta: got 3.0; input should be less than 1"]),
        ({"gamma": 1}, ["method.combine.momentum.gamma: no such key"]),
        (
            {"beta": "big", "rate": 0.0},
            [
                "method.combine.momentum.beta: got 'big'; input should be a valid number",
                "method.combine.momentum.rate: got 0.0; input should be greater than 0",
            ],
        ),
        ({"beta": 0.99, "rate": 2.0}, ["method.combine.momentum: the steps are too long"]),
    ],
)
def test_errors_in_the_settings_of_a_choice_name_the_field(
    run: type[Settings], settings: dict[str, object], problems: list[str]
) -> None:
    with pytest.raises(ConfigError) as raised:
        combine(run, {"kind": "momentum", **settings})
    assert str(raised.value).split("\n") == problems


def test_the_nested_errors_are_in_the_context_of_one_error(run: type[Settings]) -> None:
    with pytest.raises(ValidationError) as raised:
        run.model_validate({"method": {"combine": {"kind": "momentum", "beta": 3.0, "rate": -1.0}}})
    (error,) = raised.value.errors()
    assert (error["type"], error["loc"]) == (NESTED, ("method", "combine"))
    assert error["msg"] == "2 settings are wrong"
    assert [nested["loc"] for nested in error["ctx"]["errors"]] == [("beta",), ("rate",)]
