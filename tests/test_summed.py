"""Gaussian rows that were summed as they were read: the same sums, likelihood, estimates and draws as in memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import bayou
from bayou import design, families
from bayou.conditional.field import Field
from bayou.design import Design
from bayou.errors import DataError, Unsupported
from bayou.joint import joint_density
from bayou.streaming.keys import Keys
from bayou.streaming.summed import summed
from summed_models import CASES, Case, blocks_of, of_design, table

DATA = table()
GAUSSIAN = families.get("gaussian")


def both(formula: str, data: dict[str, Any], count: int = 3, **settings: Any) -> tuple[Design, Design]:
    """Return a design in memory and one whose rows were summed."""
    whole = design.build(formula, data, GAUSSIAN, **settings)
    few = summed(whole, blocks_of(whole, data, count))
    assert few is not None
    return whole, few


def sums_of(of: Design) -> tuple[np.ndarray, np.ndarray, float]:
    """Return cross products of all columns and the response by level of sigma, rows, and half the sum of log weights.

    Columns are those of X, of each level of each factor and of each node; taken off a common centre first.
    """
    weights = of.weights if of.standard_errors is None else of.weights / of.standard_errors**2
    parts = [of.X]
    for g in of.groupings:
        parts.append((np.eye(len(g.levels))[g.codes][:, :, None] * g.Z[:, None, :]).reshape(of.n, -1))
    for term in of.structured:
        nodes = np.zeros((of.n, len(term.replicates) * len(term.nodes)))
        rows = np.repeat(np.arange(of.n), np.diff(term.start))
        np.add.at(nodes, (rows, term.replicate * len(term.nodes) + term.node), term.value)
        parts.append(nodes)
    A = np.hstack([*parts, (of.y - of.offset)[:, None]])
    out = []
    for s in range(len(of.sigma_levels)):
        mine = of.sigma_codes == s
        S = (A[mine] * weights[mine, None]).T @ A[mine]
        S[-1, -1] += of.remainder.squares[s]
        out.append(S)
    rows = np.bincount(of.sigma_codes, minlength=len(of.sigma_levels)) + of.remainder.count
    shift = of.remainder.constant + 0.5 * np.log(2.0 * np.pi) * of.remainder.count.sum()
    return np.array(out), rows, 0.5 * float(np.log(weights).sum()) + shift


def assert_same_sums(whole: Design, few: Design, bar: float = 1e-13) -> None:
    """Hold all sums to those of the rows, each as a share of the sizes of its two columns."""
    (A, rows, logs), (B, rows2, logs2) = sums_of(whole), sums_of(few)
    size = np.sqrt(np.einsum("sii->si", A))
    size = np.where(size > 0.0, size, 1.0)
    assert np.abs((A - B) / (size[:, :, None] * size[:, None, :])).max() < bar
    np.testing.assert_array_equal(rows, rows2)
    np.testing.assert_allclose(logs, logs2, rtol=1e-12, atol=1e-9)
    assert few.given == whole.n and few.n == few.given - round(few.remainder.count.sum())
    np.testing.assert_allclose(few.reduced.frequency.sum(), whole.n, rtol=1e-12)  # type: ignore[union-attr]


class TestSums:
    @pytest.mark.parametrize("name", list(CASES))
    def test_are_those_of_the_rows(self, name: str) -> None:
        case = CASES[name]
        settings = {k: v for k, v in case.settings.items()}
        assert_same_sums(*both(case.formula, DATA, **settings))

    @pytest.mark.parametrize("seed", range(12))
    def test_of_random_designs(self, seed: int) -> None:
        """Cells of one, two and many rows, collinear columns and such as stand still within cells, in odd blocks."""
        rng = np.random.default_rng(seed)
        n = int(rng.integers(40, 400))
        sizes = rng.integers(1, 9, 2)
        g, h = rng.integers(0, sizes[0], n), rng.integers(0, sizes[1], n)
        x, z = rng.normal(size=n), rng.integers(0, 3, n).astype(float)
        data = {
            "y": rng.normal(size=n), "x": x, "z": z, "both": x - 2.0 * z, "twice": 2.0 * x, "g": g, "h": h,
            "still": (h * 1.5 - 2.0), "far": 1e5 + rng.normal(size=n), "w": rng.uniform(0.1, 9.0, n),
        }  # fmt: skip
        fixed = [c for c in ("x", "z", "both", "twice", "still", "far") if rng.random() < 0.6] or ["x"]
        formula = f"y ~ {rng.choice(['0', '1'])} + {' + '.join(fixed)}"
        formula += rng.choice(["", " + (1 | g)", " + (0 + x | g)", " + (1 | g) + (1 | h)"])
        chosen = {"weights": "w"} if rng.random() < 0.5 else {}
        if len(set(h)) > 1 and rng.random() < 0.5:
            chosen["sigma_by"] = "h"
        whole = design.build(formula, data, GAUSSIAN, **chosen)
        few = summed(whole, blocks_of(whole, data, int(rng.integers(1, 8))))
        if few is None:
            cells = len(np.unique(np.stack([q.codes for q in whole.groupings] + [whole.sigma_codes]), axis=1).T)
            assert 2 * cells > n
        else:
            assert_same_sums(whole, few)

    def test_of_columns_far_from_zero(self) -> None:
        """Rows of 1e8 ± 1 have eight digits of what they differ by; what is lost is the rounding of the kept rows."""
        whole, few = both("y ~ far + (1 + far | g)", DATA)
        assert_same_sums(whole, few)
        x, w = few.X[:, 1] - 1e8, few.weights
        given = whole.X[:, 1] - 1e8
        assert np.isclose(w @ np.square(x), np.square(given).sum(), rtol=1e-7)
        np.testing.assert_allclose(few.moments.fixed.sd[1], np.std(whole.X[:, 1]), rtol=1e-12)

    def test_of_a_large_cell_whose_first_row_is_an_outlier(self) -> None:
        rng = np.random.default_rng(5)
        x = rng.normal(size=20_000)
        x[0] = 1e6
        data = {"y": x * 0.5 + rng.normal(size=len(x)), "x": x}
        data["y"][0] = -3e6
        whole, few = both("y ~ x", data, count=2)
        assert_same_sums(whole, few)
        assert few.n == 2 and few.remainder.squares[0] > 0.0

    def test_of_single_rows_are_the_rows(self) -> None:
        """A cell of one row keeps it, bit by bit; a cell whose columns stand still keeps one row of its mean."""
        data = {"y": [1.1, 2.3, 2.9, 4.7, 0.2], "g": [1, 2, 2, 2, 3], "x": [0.3, 0.1, 0.2, 0.4, 0.9]}
        whole, few = both("y ~ x + (1 | g)", data | {"y": [*data["y"], *[5.0] * 5], "g": [*data["g"], *[4] * 5],
                                                     "x": [*data["x"], *[0.5] * 5]})  # fmt: skip
        np.testing.assert_array_equal(np.bincount(few.groupings[0].codes), [1, 2, 1, 1])
        assert few.y[0] == 1.1 and few.X[0, 1] == 0.3 and few.X[-1, 1] == 0.5 and few.weights[-1] == 5.0
        assert_same_sums(whole, few)

    def test_do_not_depend_on_the_blocks(self) -> None:
        one, other = both("y ~ x + arm + (1 + x | g)", DATA, 1)[1], both("y ~ x + arm + (1 + x | g)", DATA, 50)[1]
        np.testing.assert_allclose(one.X, other.X, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(one.remainder.squares, other.remainder.squares, rtol=1e-12)

    def test_part_columns_that_were_the_same_in_the_template(self) -> None:
        """The template's few rows cannot tell x from z, nor that both vary; later blocks can."""
        n = 400
        rng = np.random.default_rng(2)
        x = np.where(np.arange(n) < 150, 1.0, rng.normal(size=n))
        data = {"y": rng.normal(size=n), "x": x, "z": np.where(np.arange(n) < 300, x, 2.0 * x), "g": np.arange(n) % 7}
        whole = design.build("y ~ x + z + (1 | g)", data, GAUSSIAN)
        first = {k: v[:100] for k, v in data.items()}
        few = summed(design.build("y ~ x + z + (1 | g)", first, GAUSSIAN), blocks_of(whole, data, 4))
        assert few is not None
        assert_same_sums(whole, few)
        np.testing.assert_allclose(few.moments.fixed.mean, whole.X.mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(few.moments.fixed.sd, whole.X.std(axis=0), rtol=1e-12)

    def test_keep_equal_columns_equal(self) -> None:
        """Fixed effects that are columns of a factor stay so, bit by bit: engines look for that."""
        few = both("y ~ x + z + (1 + x + z | g)", DATA)[1]
        np.testing.assert_array_equal(few.X, few.groupings[0].Z)
        assert np.all(few.X[:, 0] == 1.0)


class TestTooManyCells:
    def test_give_none(self) -> None:
        data = {k: v[:12] for k, v in DATA.items()}
        whole = design.build("y ~ x + (1 | g)", data, GAUSSIAN)
        assert summed(whole, blocks_of(whole, data, 2)) is None

    def test_end_the_pass(self) -> None:
        read = []
        whole = design.build("y ~ x + (1 | t:g)", DATA, GAUSSIAN)
        every = blocks_of(whole, DATA, 60)

        def blocks() -> Any:
            for block in every():
                read.append(block.n)
                yield block

        n = 120
        assert summed(whole, blocks, rows=n) is None
        assert sum(read) < n


class TestKeys:
    @pytest.mark.parametrize("sizes", [[5000], [30, 40], [9000, 1, 9000], [1, 7, 1]])
    def test_number_what_they_know(self, sizes: list[int]) -> None:
        rng = np.random.default_rng(1)
        keys = Keys(sizes)
        numbered, columns = [], []
        for _ in range(5):
            block = [rng.integers(0, size, 4000) for size in sizes]
            numbered.append(keys.number(block))
            columns.append(np.stack(block, axis=1))
        np.testing.assert_array_equal(keys.known[np.concatenate(numbered)], np.concatenate(columns))
        assert len(np.unique(keys.known, axis=0)) == len(keys)

    def test_take_any_numbers(self) -> None:
        keys = Keys(None, 2)
        a = np.array([2**62, -(2**62), 2**62, 0])
        b = np.array([1.5, -0.25, 1.5, 1.5]).view(np.int64)
        np.testing.assert_array_equal(keys.number([a, b]), [0, 1, 0, 2])


def close(one: Any, other: Any, bar: float) -> None:
    np.testing.assert_allclose(np.asarray(one), np.asarray(other), rtol=bar, atol=bar)


@pytest.mark.parametrize("name", list(CASES))
class TestModels:
    """A model of summed rows is that of the rows."""

    def test_priors_and_notes(self, name: str) -> None:
        whole, few = CASES[name].pair(DATA)
        for part in ("beta_mean", "beta_precision", "dispersion_parameters"):
            close(getattr(whole.bound, part), getattr(few.bound, part), 1e-12)
        for one, other in zip(whole.bound.blocks, few.bound.blocks, strict=True):
            close(one.sd_parameters, other.sd_parameters, 1e-12)
        assert str(whole.bound.notes) == str(few.bound.notes)

    def test_log_marginal_and_its_gradient(self, name: str) -> None:
        whole, few = (Field(model) for model in CASES[name].pair(DATA))
        rng = np.random.default_rng(1)
        for _ in range(3):
            psi = whole.initial + 0.3 * rng.normal(size=whole.size)
            (value, slopes), (value2, slopes2) = whole.evaluate(psi), few.evaluate(psi)
            close(value, value2, 1e-10)
            np.testing.assert_allclose(slopes2, slopes, rtol=1e-8, atol=1e-8 * np.abs(slopes).max())

    def test_joint_density_and_its_gradient(self, name: str) -> None:
        whole, few = (joint_density(model, "whitened") for model in CASES[name].pair(DATA))
        rng = np.random.default_rng(1)
        for _ in range(3):
            q = 0.3 * rng.normal(size=whole.size)
            (value, slopes), (value2, slopes2) = whole.evaluate(q), few.evaluate(q)
            close(value, value2, 1e-12)
            np.testing.assert_allclose(slopes2, slopes, rtol=1e-10, atol=1e-10 * np.abs(slopes).max())


class TestEngines:
    @pytest.mark.parametrize("name", [name for name in CASES if name != "regression"])
    @pytest.mark.parametrize("engine", ["ml", "reml"])
    def test_estimates(self, name: str, engine: str) -> None:
        whole, few = (bayou.fit(model, engine=engine, seed=1) for model in CASES[name].pair(DATA))
        close(whole.log_likelihood, few.log_likelihood, 1e-10)
        close(whole.aic, few.aic, 1e-10)
        close(whole.bic, few.bic, 1e-10)
        sd = np.maximum(np.nan_to_num(whole.summary()["sd"].to_numpy(dtype=float), nan=1.0), 1e-3)
        off = (whole.summary()["mean"] - few.summary()["mean"]).to_numpy(dtype=float) / sd
        # where one sigma is profiled out the two searches go the same way, elsewhere to the bar of a search
        assert np.nanmax(np.abs(off)) < (1e-8 if name in ("slope", "uncorrelated", "crossed", "weights") else 2e-6)

    @pytest.mark.parametrize("name", ["slope", "nested", "sigma", "measured", "weights", "none", "walk"])
    def test_gibbs_draws_the_same(self, name: str) -> None:
        settings = {"engine": "gibbs", "draws": 60, "warmup": 60, "chains": 1, "seed": 4}
        whole, few = (bayou.fit(model, **settings).result.draws for model in CASES[name].pair(DATA))
        for key, values in whole.items():
            close(values, few[key], 1e-6)

    @pytest.mark.parametrize("parameterization", ["centered", "uncentered", "marginal", "blocked"])
    def test_every_gibbs_sampler_draws_the_same(self, parameterization: str) -> None:
        settings = {"draws": 40, "warmup": 20, "chains": 1, "parameterization": parameterization}
        pair = CASES["sigma"].pair(DATA)
        whole, few = (bayou.fit(model, engine="gibbs", seed=4, **settings).result.draws for model in pair)
        for key, values in whole.items():
            close(values, few[key], 1e-6)

    @pytest.mark.parametrize("name", ["slope", "sigma", "measured", "spline"])
    def test_inla(self, name: str) -> None:
        whole, few = (bayou.fit(model, engine="inla", seed=1) for model in CASES[name].pair(DATA))
        close(whole.log_marginal, few.log_marginal, 1e-9)
        close(whole.summary().select_dtypes("number"), few.summary().select_dtypes("number"), 1e-6)

    @pytest.mark.parametrize("engine", ["laplace", "quadrature", "pql"])
    def test_likelihood_engines(self, engine: str) -> None:
        whole, few = (bayou.fit(model, engine=engine, seed=1) for model in CASES["slope"].pair(DATA))
        close(whole.summary()["mean"], few.summary()["mean"], 1e-6)
        if engine != "pql":
            close(whole.log_likelihood, few.log_likelihood, 1e-10)

    def test_metropolis_draws_sigma_from_all_rows(self) -> None:
        """Proposals differ row by row and draws do too; the conditional of the residual sds is the same."""
        _, few = CASES["sigma"].pair(DATA)
        found = bayou.fit(few, engine="metropolis", seed=1, draws=1500, warmup=500, chains=2)
        exact = bayou.fit(few, engine="gibbs", seed=2, draws=1500, warmup=500, chains=2)
        one, other = found.summary(), exact.summary()
        error = np.sqrt(one["sd"] ** 2 / one["ess_bulk"] + other["sd"] ** 2 / other["ess_bulk"])
        assert (np.abs(one["mean"] - other["mean"]) < 4.0 * error).all()

    def test_nuts_starts_from_the_same_density(self) -> None:
        whole, few = (joint_density(model) for model in CASES["crossed"].pair(DATA))
        q = 0.2 * np.random.default_rng(3).normal(size=whole.size)
        (value, slopes), (value2, slopes2) = whole.evaluate(q), few.evaluate(q)
        close(value, value2, 1e-8)
        np.testing.assert_allclose(slopes2, slopes, rtol=1e-5, atol=1e-6 * np.abs(slopes).max())


@pytest.fixture(scope="module")
def fits() -> tuple[Any, Any]:
    """One model by REML, in memory and on summed rows."""
    whole, few = CASES["uncorrelated"].pair(DATA)
    return bayou.fit(whole, engine="reml", seed=1), bayou.fit(few, engine="reml", seed=1)


class TestInference:
    def test_degrees_of_freedom(self, fits: tuple[Any, Any]) -> None:
        L = np.eye(6)[1:2]
        for method in ("satterthwaite", "kenward-roger"):
            one, other = (fit.test(L, method=method) for fit in fits)
            close([one.statistic, one.denominator_df], [other.statistic, other.denominator_df], 1e-8)

    @pytest.mark.parametrize("kind", ["I", "II", "III"])
    def test_analysis(self, fits: tuple[Any, Any], kind: str) -> None:
        one, other = (fit.anova(kind).select_dtypes("number") for fit in fits)
        close(one, other, 1e-7)

    def test_intervals_means_and_shares(self, fits: tuple[Any, Any]) -> None:
        close(*(f.confidence_intervals(method="profile").select_dtypes("number") for f in fits), 1e-6)
        close(*(f.confidence_intervals(method="wald").select_dtypes("number") for f in fits), 1e-7)
        close(*(f.r2().select_dtypes("number") for f in fits), 1e-7)
        close(*(f.icc().select_dtypes("number") for f in fits), 1e-7)

    def test_predictions_for_new_data(self, fits: tuple[Any, Any]) -> None:
        new = {name: np.asarray(values)[:8] for name, values in DATA.items()}
        for groups in ("observed", "population"):
            close(*(f.predict(new, groups=groups) for f in fits), 1e-7)

    def test_rows_themselves_are_refused(self, fits: tuple[Any, Any]) -> None:
        few = fits[1]
        sampled = bayou.fit(few.result.model, engine="gibbs", seed=1, draws=50, warmup=50, chains=1)
        asked: list[Any] = [
            few.residuals,
            few.predict,
            lambda: few.confidence_intervals(method="bootstrap", replicates=2),
            lambda: few.plot.bands("x"),
            lambda: sampled.plot.predictive_check(),
            lambda: bayou.Priors.unit_information(CASES["slope"].pair(DATA)[1]),
            lambda: bayou.pooling(CASES["slope"].pair(DATA)[1]),
            lambda: bayou.fit(few.result.model, engine="inla", seed=1).waic,
        ]
        for ask in asked:
            with pytest.raises(Unsupported, match="in memory"):
                ask()


class TestChecks:
    def test_response_that_a_factor_reproduces(self) -> None:
        """One row a level is kept, and what says whether they fit exactly is what was left out."""
        data = {"y": np.repeat([1.0, 2.0, 4.0], 5), "g": np.repeat([1, 2, 3], 5)}
        noisy = data | {"y": data["y"] + np.random.default_rng(1).normal(size=15)}
        for rows, exact in ((data, True), (noisy, False)):
            _, few = Case("y ~ 1 + (1 | g)").pair(rows)
            assert any("reproduce" in note or "constant" in note for note in few.bound.notes) == exact

    def test_rows_given_are_counted(self) -> None:
        """Three kept rows for four coefficients: there were 600."""
        with pytest.raises(DataError, match="rank-deficient"):
            bayou.fit(CASES["regression"].pair(DATA)[1], engine="ml")
        from bayou.priors import FlatSD, Jeffreys

        given = {"sigma": Jeffreys(), "sd": FlatSD()}
        whole, few = Case("y ~ x + (1 | g)").pair(DATA, priors=given)
        assert whole.bound.notes == few.bound.notes

    def test_data_that_changed(self) -> None:
        whole = design.build("y ~ x + (1 | g)", DATA, GAUSSIAN)
        other = {name: np.asarray(values).copy() for name, values in DATA.items()}
        other["g"][5] = 99
        with pytest.raises(DataError, match="first pass over the data did not see"):
            summed(whole, blocks_of(whole, other, 2))

    def test_other_families(self) -> None:
        counts = {"y": [1, 2, 3, 4], "x": [0, 1, 0, 1]}
        whole = design.build("y ~ x", counts, families.get("poisson"))
        with pytest.raises(Unsupported, match="Gaussian response with an identity link"):
            summed(whole, blocks_of(whole, counts, 1))


def test_moments_are_numpys_own_in_memory() -> None:
    """Bitwise what default priors and starts were computed from before rows could be summed."""
    made = design.build("y ~ x + z + offset(e) + (1 + x | g)", DATA, GAUSSIAN)
    y = made.y - made.offset
    assert made.moments.sd == float(np.std(y)) and made.moments.level == float(np.average(y, weights=made.weights))
    np.testing.assert_array_equal(made.moments.fixed.mean, made.X.mean(axis=0))
    assert made.moments.size(0, 1) == float(np.sqrt(np.mean(made.groupings[0].Z[:, 1] ** 2)))


def test_moments_of_kept_rows_by_frequency() -> None:
    """Where none were kept while reading: those of the kept rows, as often as they stand for a row."""
    from dataclasses import replace

    from bayou.design import Reduced

    made = design.build("y ~ x + (1 | g)", DATA, GAUSSIAN)
    times = np.random.default_rng(1).integers(1, 4, made.n).astype(float)
    few = replace(made, reduced=Reduced("merged", int(times.sum()), times, made.remainder))
    again = np.repeat(np.arange(made.n), times.astype(int))
    many = replace(made, X=made.X[again], y=made.y[again], offset=made.offset[again], weights=made.weights[again])
    for part in ("mean", "sd", "rms", "scale", "largest"):
        close(getattr(few.moments.fixed, part), getattr(many.moments.fixed, part), 1e-12)
    close(few.moments.sd, many.moments.sd, 1e-12)


def test_a_model_of_a_design_prints() -> None:
    _, few = CASES["slope"].pair(DATA)
    assert "y ~ x" in str(few) and of_design(few.design).design is few.design
