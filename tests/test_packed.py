"""Named tuples as kernels take them: the same numbers, by the same names, from Python and from the disk cache."""

import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from bayou.jit import kernel
from bayou.packed import Packed


class Inner(NamedTuple):
    x: np.ndarray
    table: np.ndarray
    cube: np.ndarray
    flag: bool
    weight: float


class Outer(NamedTuple):
    inner: Inner
    count: int
    index: np.ndarray


@kernel(inner=True)
def sum_inner(p):
    total = 0.0
    for i in range(p.inner.x.shape[0]):
        total += p.inner.x[i] * p.inner.weight
    for i in range(p.inner.cube.shape[0]):
        for k in range(p.inner.cube.shape[1]):
            for c in range(p.inner.cube.shape[2]):
                total += p.inner.cube[i, k, c] * (1 + i + 10 * k + 100 * c)
    return total


@kernel
def everything(p):
    total = sum_inner(p) + p.count + p.index[p.index.shape[0] - 1]
    row = p.inner.table[1]
    row[2] += total
    return total if p.inner.flag else -total


def example(flag=True, n=3):
    rng = np.random.default_rng(n)
    inner = Inner(rng.normal(size=n), np.zeros((2, 3)), rng.normal(size=(2, 3, 4)), flag, 2.5)
    return Outer(inner, 7, np.arange(4))


@pytest.mark.parametrize("flag", [True, False])
@pytest.mark.parametrize("n", [0, 3])
def test_every_field_is_read_and_arrays_are_written(flag, n):
    parts = example(flag, n)
    found = everything(Packed(parts))
    i, k, c = np.indices((2, 3, 4))
    by_hand = (parts.inner.x * 2.5).sum() + (parts.inner.cube * (1 + i + 10 * k + 100 * c)).sum() + 7 + 3
    assert np.isclose(found, by_hand if flag else -by_hand)
    assert np.isclose(parts.inner.table[1, 2], by_hand)
    assert np.count_nonzero(parts.inner.table) == 1


def test_arrays_live_as_long_as_the_packed_tuple():
    packed = Packed(example())
    before = everything(packed)
    junk = [np.full(3, np.nan) for _ in range(1000)]
    assert everything(packed) == before
    assert len(junk) == 1000


def test_tuples_of_one_form_share_one_compiled_kernel():
    count = len(everything.signatures)
    everything(Packed(example(n=3)))
    at_most = len(everything.signatures)
    everything(Packed(example(n=50)))
    assert len(everything.signatures) == at_most <= count + 1


def test_an_unknown_field_is_told_at_compilation():
    def reads(p):
        return p.nothing

    with pytest.raises(Exception, match="nothing"):
        kernel(reads)(Packed(example()))


@pytest.mark.parametrize(
    "value", [np.arange(6.0).reshape(2, 3).T, np.zeros(3, dtype=np.float32), np.zeros(3, dtype=bool)]
)
def test_arrays_that_kernels_cannot_take_are_refused(value):
    with pytest.raises(TypeError, match="index"):
        Packed(example()._replace(index=value))


def test_compiled_code_is_found_again_in_another_process(tmp_path: Path):
    source = tmp_path / "one.py"
    source.write_text(
        "from typing import NamedTuple\nimport numpy as np\nfrom bayou.jit import kernel\nfrom bayou.packed import Packed\n"
        "class P(NamedTuple):\n    x: np.ndarray\n"
        "@kernel(entry=True)\ndef first(p):\n    return p.x[0]\n"
        "print(first(Packed(P(np.array([4.5])))), sum(first.stats.cache_hits.values()))\n"
    )
    run = lambda: subprocess.run([sys.executable, source], capture_output=True, text=True, check=True).stdout  # noqa: E731
    run()
    assert run().split() == ["4.5", "1"]
