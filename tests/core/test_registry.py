from collections.abc import Callable
from fractions import Fraction
from importlib.metadata import EntryPoint

import pytest
from tests.core.conftest import MakePackage

from onebasin.core import registry as registry_module
from onebasin.core.references import FactoryError
from onebasin.core.registry import Registry, UnknownName
from onebasin.core.settings import Choice

Announce = Callable[[dict[str, str]], None]

PARTS = {
    "top_k.py": '''
        from onebasin.core.settings import Choice

        class TopK(Choice):
            """Keeps the largest values.

            More on that.
            """
    ''',
    "sign.py": """
        from onebasin.core.settings import Choice, Settings

        class Options(Settings):
            pass

        class _Base(Choice):
            pass

        class Sign(_Base):
            pass
    """,
    "_shared.py": "raise AssertionError('this file defines no part, so it must not be imported')",
}
OUTSIDE = """
    from onebasin.core.settings import Choice

    class Median(Choice):
        '''The median of three.'''

    number = 3
"""


@pytest.fixture(autouse=True)
def announce(monkeypatch: pytest.MonkeyPatch) -> Announce:
    """Return a function that sets the entry points of installed packages, value by name. At first there are none."""

    def set_entry_points(values: dict[str, str]) -> None:
        points = [EntryPoint(name, value, "onebasin") for name, value in values.items()]
        monkeypatch.setattr(registry_module, "entry_points", lambda group: points if group == "onebasin" else [])

    set_entry_points({})
    return set_entry_points


@pytest.fixture
def parts(make_package: MakePackage) -> Registry[Choice]:
    """Return a registry of the kind "stage" with the built-in names sign and top-k."""
    return Registry("stage", Choice, make_package(PARTS))


@pytest.fixture
def outside(make_package: MakePackage) -> str:
    """Return the name of a module outside of the registry's package."""
    return make_package({"parts.py": OUTSIDE}) + ".parts"


def test_built_in_names_are_those_of_the_files_without_an_underscore(parts: Registry[Choice]) -> None:
    assert parts.names == list(parts.built_in) == ["sign", "top-k"]
    assert "top-k" in parts
    for name in ("top_k", "TopK", "shared", "_shared", "", 3, None):
        assert name not in parts


def test_a_name_is_found_as_the_class_that_its_file_defines(parts: Registry[Choice]) -> None:
    assert parts.find("top-k").__name__ == "TopK"
    assert parts.find("sign").__name__ == "Sign"
    assert parts.find("sign") is parts.find("sign")


def test_entries_are_the_parts_and_what_keeps_one_from_being_used(
    parts: Registry[Choice], outside: str, announce: Announce
) -> None:
    announce({"stage.broken": "nowhere.at_all:Part"})
    entries = dict(parts.entries())
    assert list(entries)[:-1] == list(parts.built_in)
    assert isinstance(entries["broken"], FactoryError)


def test_announced_names_follow_the_built_in_ones(parts: Registry[Choice], outside: str, announce: Announce) -> None:
    announce(
        {"stage.median": f"{outside} : Median", "stage.alone": f"{outside}:Median", "objective.other": "nowhere:Other"}
    )
    assert parts.names == ["sign", "top-k", "alone", "median"]
    assert "median" in parts
    assert "other" not in parts
    assert parts.find("median") is parts.find("alone") is parts.find(f"{outside}:Median")


def test_an_announced_name_cannot_replace_a_built_in_one(
    parts: Registry[Choice], outside: str, announce: Announce
) -> None:
    announce({"stage.sign": f"{outside}:Median"})
    assert list(parts.announced) == []
    assert parts.find("sign").__name__ == "Sign"


def test_an_announced_name_is_imported_only_when_it_is_looked_up(parts: Registry[Choice], announce: Announce) -> None:
    announce({"stage.broken": "no_such_package:Name"})
    assert parts.names == ["sign", "top-k", "broken"]
    with pytest.raises(FactoryError, match="module 'no_such_package' cannot be imported"):
        parts.find("broken")


def test_the_error_for_an_unknown_name_lists_the_known_ones(
    parts: Registry[Choice], outside: str, announce: Announce
) -> None:
    announce({"stage.median": f"{outside}:Median"})
    with pytest.raises(UnknownName, match=r"^expected one of sign, top-k, median, or package\.module:Name$"):
        parts.find("mean")


def test_references_to_anything_but_a_part_are_refused(
    parts: Registry[Choice], outside: str, announce: Announce
) -> None:
    announce({"stage.number": f"{outside}:number"})
    expected = "expected a subclass of onebasin.core.settings.Choice"
    for name, problem in [
        (f"{outside}:number", f"'{outside}:number' is 3; {expected}"),
        ("number", f"'{outside}:number' is 3; {expected}"),
        ("pathlib:Path", f"'pathlib:Path' is <class 'pathlib.*Path'>; {expected}"),
        (f"{outside}:Mean", f"'{outside}' has no 'Mean'"),
        (f"{outside}:", 'expected "package.module:factory"'),
    ]:
        with pytest.raises(FactoryError, match=problem):
            parts.find(name)


def test_a_registry_of_instances_finds_the_instance_that_a_file_defines(make_package: MakePackage) -> None:
    package = make_package({"first.py": "from fractions import Fraction\nPART = Fraction(1, 3)\n_hidden = PART + 1"})
    fractions: Registry[Fraction] = Registry("page", Fraction, package, instances=True)
    assert fractions.find("first") == Fraction(1, 3)
    with pytest.raises(FactoryError, match=r"is <class 'fractions\.Fraction'>; expected an instance of fractions\."):
        fractions.find("fractions:Fraction")


@pytest.mark.parametrize(
    "text", ["", "from onebasin.core.settings import Choice\nclass A(Choice): pass\nclass B(A): pass"]
)
def test_a_file_must_define_exactly_one_part(make_package: MakePackage, text: str) -> None:
    parts: Registry[Choice] = Registry("stage", Choice, make_package({"wrong.py": text}))
    with pytest.raises(AssertionError, match=r"wrong defines (0|2) entries of kind stage; expected one"):
        parts.find("wrong")
