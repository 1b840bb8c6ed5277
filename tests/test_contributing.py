"""The templates of CONTRIBUTING.md are taken out of the page and run."""

import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest

import bayou
from bayou import jit
from bayou.errors import Unsupported

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "CONTRIBUTING.md").read_text()


def template(name, folder, monkeypatch):
    """Import the Python block that follows the mark of this name."""
    text = re.search(rf"<!-- template: {name} -->\s*```python\n(.*?)```", PAGE, re.S)[1]
    path = folder / f"contributed_{name}.py"
    path.write_text(text)
    # its kernels are compiled for this test alone, and kept out of the package's cache
    monkeypatch.setattr(jit, "cache_folder", lambda: None)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_has_two_templates_and_fits_on_a_page():
    assert re.findall(r"<!-- template: (\w+) -->", PAGE) == ["engine", "effect"]
    assert len(PAGE.splitlines()) <= 100


def test_files_that_the_page_names_exist():
    for path in re.findall(r"`((?:src|tests)/[\w/.]+)`", PAGE):
        assert (ROOT / path).exists(), path


def test_commands_that_the_page_names_exist():
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M)
    for command in re.findall(r"^make (\w+)", PAGE, re.M):
        assert command in targets


def test_engine_template(tmp_path, monkeypatch):
    PriorOnly = template("engine", tmp_path, monkeypatch).PriorOnly
    rng = np.random.default_rng(4)
    data = {"y": rng.normal(3, 2, 30), "x": rng.normal(size=30), "g": list("abcde") * 6}
    fit, again = (bayou.fit("y ~ x", data, engine=PriorOnly(draws=4000), seed=1) for _ in range(2))
    assert fit.result.draws["beta"].shape == (1, 4000, 2)
    np.testing.assert_array_equal(fit.result.draws["beta"], again.result.draws["beta"])
    # what it draws is the default prior
    slope = 2.5 * np.std(data["y"], ddof=1) / np.std(data["x"], ddof=1)
    assert abs(fit.fixed_effects.loc["x", "mean"]) < 0.1 * slope
    assert abs(fit.fixed_effects.loc["x", "sd"] / slope - 1) < 0.06
    assert "PriorOnly(draws=4000)" in str(fit)
    assert len(fit.predict({"x": [0.0, 1.0]}, kind="outcome")) == 2
    with pytest.raises(Unsupported, match="metropolis"):
        bayou.fit("y ~ x + (1 | g)", data, engine=PriorOnly(), seed=1)


def test_effect_template(tmp_path, monkeypatch):
    module = template("effect", tmp_path, monkeypatch)
    module.test_against_the_dense_matrix()
    assert module.Bridge(3, replicates=4).draw(np.zeros(1), np.random.default_rng(1), 2).shape == (2, 4, 3)
