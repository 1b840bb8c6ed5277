"""The house as its plan says: data flow one way, files stay short, every name in the plan exists."""

import ast
import re
from pathlib import Path

import pytest

import bayou

HOUSE = Path(bayou.__file__).parent
PLAN = Path(__file__).parent.parent / "CONTRIBUTING.md"


def floors():
    """The floors of the plan in CONTRIBUTING.md, from the ground up: name -> floor."""
    line = next(line for line in PLAN.read_text("utf-8").splitlines() if line.startswith("`errors, "))
    names = [floor.split(", ") for floor in line.strip("`").split(" → ")]
    return {name: k for k, floor in enumerate(names) for name in floor}


FLOORS = floors()
SOURCES = sorted(p for p in HOUSE.rglob("*.py") if "__pycache__" not in p.parts)


def room(source):
    return source.relative_to(HOUSE).parts[0].removesuffix(".py")


def imported(source):
    """The rooms that a file imports from when it is loaded: not for type checkers, nor inside a method for users."""
    for node in ast.parse(source.read_text("utf-8")).body:
        modules = []
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            modules = [node.module]
            if node.module == "bayou":
                modules = [f"bayou.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        for module in modules:
            if module.startswith("bayou."):
                yield module.split(".")[1]


def test_every_room_is_on_the_plan():
    rooms = {room(p) for p in SOURCES} - {"__init__", "__main__", "_types"}
    assert rooms == set(FLOORS)


@pytest.mark.parametrize("source", SOURCES, ids=lambda p: str(p.relative_to(HOUSE)))
def test_imports_go_down(source):
    own = room(source)
    if own in ("__init__", "__main__"):
        return
    wrong = {name for name in imported(source) if FLOORS.get(name, -1) > FLOORS.get(own, -1)}
    assert not wrong, f"{source.name} is on floor {FLOORS.get(own)} and imports {wrong}"


@pytest.mark.parametrize("source", SOURCES, ids=lambda p: str(p.relative_to(HOUSE)))
def test_files_are_short(source):
    assert len(source.read_text("utf-8").splitlines()) <= 400


def test_kernels_are_compiled_by_one_decorator():
    for source in SOURCES:
        if source.name not in ("jit.py", "packed.py"):
            assert not re.search(r"@(numba\.)?(n?jit|njit|vectorize|guvectorize)\b", source.read_text("utf-8")), source
