"""`import bayou` is quick, brings nothing heavy, and knows its public names."""

import json
import subprocess
import sys

import pytest

import bayou

HEAVY = ("pandas", "numba", "xarray", "formulaic", "matplotlib", "scipy", "arviz_stats", "pyarrow", "numpy")


def in_new_process(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout


def test_import_brings_nothing_heavy():
    loaded = json.loads(in_new_process("import bayou, json, sys; print(json.dumps(list(sys.modules)))"))
    assert not set(HEAVY) & set(loaded)


def test_import_takes_less_than_three_tenths_of_a_second():
    code = "import time; t = time.perf_counter(); import bayou; print(time.perf_counter() - t)"
    assert min(float(in_new_process(code)) for _ in range(3)) < 0.3


@pytest.mark.parametrize("name", bayou.__all__)
def test_every_public_name_resolves(name):
    assert getattr(bayou, name) is not None
    assert name in dir(bayou)


@pytest.mark.parametrize("name", ["priors", "families", "links", "engines", "datasets", "errors", "plot"])
def test_modules_resolve_after_a_plain_import(name):
    assert in_new_process(f"import bayou; print(bayou.{name}.__name__)").strip() == f"bayou.{name}"


def test_the_function_fit_survives_its_first_use():
    code = "import bayou; bayou.fit; print(callable(bayou.fit), callable(bayou.load))"
    assert in_new_process(code) == "True True\n"


def test_an_unknown_name_is_an_attribute_error_that_lists_the_known_ones():
    with pytest.raises(AttributeError, match="no attribute 'fitt'; it has .*fit"):
        bayou.fitt  # noqa: B018
