import sys
from hashlib import blake2b
from pathlib import Path

import pytest
from tests.core.conftest import MakePackage

from onebasin.core.references import FactoryError, build, is_outside, resolve, source_digest
from onebasin.core.registry import Registry

SHAPES = """
class Circle:
    class Arc:
        pass

    def __init__(self, radius, unit="m"):
        if radius < 0:
            raise ArithmeticError("a negative radius")
        self.text = f"{radius} {unit}"

NOTHING = 3
"""


@pytest.fixture
def shapes(make_package: MakePackage) -> str:
    """Return the name of a module of shapes."""
    return make_package({"shapes.py": SHAPES}) + ".shapes"


def test_a_reference_is_resolved_to_the_named_object(shapes: str) -> None:
    circle = resolve(f"{shapes}:Circle")
    assert (circle.__name__, circle.__module__) == ("Circle", shapes)
    assert resolve(f"{shapes}:Circle.Arc") is circle.Arc
    assert resolve(f"{shapes}:NOTHING") == 3
    assert resolve("onebasin.core.registry:Registry") is Registry


def test_modules_are_found_in_the_working_directory_after_installed_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "module_in_the_working_directory.py").write_text("VALUE = 7\n")
    (tmp_path / "onebasin.py").write_text("VALUE = 8\n")
    assert resolve("module_in_the_working_directory:VALUE") == 7
    with pytest.raises(FactoryError, match="'onebasin' has no 'VALUE'"):
        resolve("onebasin:VALUE")
    assert sys.path[-1] == str(tmp_path)
    del sys.modules["module_in_the_working_directory"]


@pytest.mark.parametrize("reference", ["", "shapes", "shapes:", ":Circle", ":"])
def test_texts_without_a_module_and_a_name_are_refused(reference: str) -> None:
    with pytest.raises(FactoryError, match=r'expected "package\.module:factory"'):
        resolve(reference)


def test_errors_name_the_step_that_failed(shapes: str, make_package: MakePackage) -> None:
    broken = make_package({"broken.py": "raise KeyError('no such column')"}) + ".broken"
    for reference, problem in [
        ("no_such_package.module:Name", r"module 'no_such_package.module' cannot be imported \(ModuleNotFoundError: "),
        (f"{broken}:Name", rf"module '{broken}' cannot be imported \(KeyError: 'no such column'\); expected an "),
        (f"{shapes}:Square", f"'{shapes}:Square': '{shapes}' has no 'Square'"),
        (f"{shapes}:Circle.Chord", f"'{shapes}' has no 'Circle.Chord'"),
    ]:
        with pytest.raises(FactoryError, match=problem):
            resolve(reference)


def test_a_factory_is_called_with_the_arguments_and_options(shapes: str) -> None:
    assert build(f"{shapes}:Circle", 2).text == "2 m"
    assert build(f"{shapes}:Circle", 2, unit="cm").text == "2 cm"


def test_objects_that_cannot_be_called_and_errors_of_factories_are_refused(shapes: str) -> None:
    with pytest.raises(FactoryError, match=f"'{shapes}:NOTHING' is a int; expected something callable"):
        build(f"{shapes}:NOTHING")
    with pytest.raises(FactoryError, match=f"'{shapes}:Circle' cannot be called: ArithmeticError: a negative radius"):
        build(f"{shapes}:Circle", -1)
    with pytest.raises(FactoryError, match=r"cannot be called: TypeError: .*'colour'"):
        build(f"{shapes}:Circle", 1, colour="red")


def test_code_from_outside_is_recognised_and_named_by_a_digest_of_its_file(shapes: str) -> None:
    circle = resolve(f"{shapes}:Circle")
    assert is_outside(circle)
    assert not is_outside(Registry)
    assert source_digest(circle) == source_digest(circle.Arc) == blake2b(SHAPES.encode(), digest_size=8).hexdigest()
    assert len(source_digest(Registry)) == 16


def test_code_without_a_file_has_an_empty_digest() -> None:
    namespace: dict[str, type] = {}
    exec("class Typed: pass", {"__name__": "__console__"}, namespace)
    assert source_digest(namespace["Typed"]) == ""
    assert source_digest(int) == ""
