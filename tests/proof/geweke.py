"""Geweke's joint-distribution test of the samplers as they run ("Getting it right", JASA 99, 2004).

Two simulators of the joint distribution of parameters and data. The marginal-conditional one draws the parameters
from their priors and data given them, independently. The successive-conditional one alternates a scan of the sampler
under test with new data given the parameters. If the sampler leaves the posterior as it is, both have the same
distribution, so that the means of any function agree; a wrong sampler pulls the second one away, and goes on pulling.

The chain is the engine's own (`Plan.new_chain`, `Chain.advance`); only its data are overwritten between two scans.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bayou.engines import Gibbs, Metropolis
from bayou.engines.crossed.chain import CrossedChain
from bayou.engines.lmm import collapsed
from bayou.engines.metropolis import glmm_target
from bayou.model import Model
from bayou.priors.scalar import from_code
from oracle import clone, row_scale

Array = np.ndarray
WARMUP = 300


@dataclass
class Sample:
    """Draws from the joint distribution in printed coordinates; the first axis is the draw."""

    beta: Array  # (draws, P)
    b: list[Array]  # (draws, J, p) of each factor
    sd: list[Array]  # (draws, p)
    cor: list[Array | None]  # (draws,) of the first two coefficients, if they are correlated
    scale: Array | None  # (draws, levels): sigma, 1/sqrt(phi) or 1/sqrt(shape)
    y: Array  # (draws, rows)


def linear_predictor(model: Model, beta: Array, b: list[Array]) -> Array:
    """X beta + Z b + offset of many draws."""
    design = model.design
    eta = beta @ design.X.T + design.offset
    for grouping, values in zip(design.groupings, b, strict=True):
        eta = eta + (grouping.Z * values[:, grouping.codes]).sum(axis=2)
    return eta


def dispersion_of(model: Model, scale: Array | None) -> Array | None:
    """What `Family.sample` takes, row by row, from sd-like scales (draws, levels)."""
    if model.dispersion_known:
        return row_scale(model, np.ones(1))
    if scale is None:
        return None
    rows = scale[..., model.design.sigma_codes]
    return rows if model.family.dispersion == "sigma" else 1.0 / rows**2


# ---- the marginal-conditional simulator ---------------------------------------------------------


def _covariances(model: Model, g: int, draws: int, rng: np.random.Generator) -> Array:
    """Covariance matrices (draws, p, p) of factor g from their prior, written from its definition."""
    p = model.design.groupings[g].Z.shape[1]
    out = np.zeros((draws, p, p))
    for block in model.bound.blocks:
        if block.grouping != g:
            continue
        q = len(block.columns)
        assert q <= 2
        if block.kind == "sds":
            pairs = zip(block.sd_codes, block.sd_parameters, strict=True)
            sd = np.stack([from_code(int(code), numbers).sd_draw(rng, draws) for code, numbers in pairs], axis=1)
            R = np.broadcast_to(np.eye(q), (draws, q, q)).copy()
            if q == 2:
                # LKJ(eta) of one correlation
                R[:, 0, 1] = R[:, 1, 0] = 2.0 * rng.beta(block.lkj, block.lkj, draws) - 1.0
            Sigma = sd[:, :, None] * R * sd[:, None, :]
        else:
            df, scale = block.df, np.broadcast_to(block.scale, (draws, q, q))
            if block.kind == "huang_wand":
                a = 1.0 / rng.gamma(0.5, block.A**2, (draws, q))
                df, scale = block.df + q - 1.0, 2.0 * block.df * np.einsum("dk,kl->dkl", 1.0 / a, np.eye(q))
            # Sigma⁻¹ = Σ of df outer products of N(0, scale⁻¹); df is whole in these tests
            assert df == int(df)
            root = np.linalg.cholesky(np.linalg.inv(scale))
            x = np.einsum("dkl,dln->dkn", root, rng.standard_normal((draws, q, int(df))))
            Sigma = np.linalg.inv(np.einsum("dkn,dln->dkl", x, x))
        for i, row in enumerate(block.columns):
            for k, column in enumerate(block.columns):
                out[:, row, column] = Sigma[:, i, k]
    return out


def prior_sample(model: Model, draws: int, rng: np.random.Generator) -> Sample:
    """Independent draws of all unknowns from their priors, and data given them."""
    bound, design = model.bound, model.design
    beta = np.tile(bound.beta_mean, (draws, 1))
    gaussian = np.flatnonzero(bound.beta_codes == 0)
    if len(gaussian):
        root = np.linalg.cholesky(np.linalg.inv(bound.beta_precision[np.ix_(gaussian, gaussian)]))
        beta[:, gaussian] += rng.standard_normal((draws, len(gaussian))) @ root.T
    for k in np.flatnonzero(bound.beta_codes):
        beta[:, k] = from_code(int(bound.beta_codes[k]), bound.beta_parameters[k]).draw(rng, draws)
    b, sd, cor = [], [], []
    for g, grouping in enumerate(design.groupings):
        Sigma = _covariances(model, g, draws, rng)
        J, p = len(grouping.levels), Sigma.shape[1]
        b.append(np.einsum("dkl,djl->djk", np.linalg.cholesky(Sigma), rng.standard_normal((draws, J, p))))
        sd.append(np.sqrt(np.diagonal(Sigma, axis1=1, axis2=2)))
        together = any(len(block) > 1 for block in grouping.blocks)
        cor.append(Sigma[:, 0, 1] / sd[-1][:, 0] / sd[-1][:, 1] if together else None)
    scale = None
    if model.family.dispersion is not None and not model.dispersion_known:
        prior = from_code(bound.dispersion_code, bound.dispersion_parameters)
        levels = len(design.sigma_levels)
        scale = np.asarray(prior.sd_draw(rng, draws * levels)).reshape(draws, levels)
    eta = linear_predictor(model, beta, b)
    y = model.family.sample(rng, eta, dispersion_of(model, scale), design.trials, design.weights)
    return Sample(beta, b, sd, cor, scale, y)


# ---- the successive-conditional simulator -------------------------------------------------------


class Successive:
    """One chain of an engine whose data are replaced between two scans."""

    def __init__(
        self, model: Model, engine: Gibbs | Metropolis, rng: np.random.Generator, keep_data: bool = False
    ) -> None:
        self.engine, self.rng = engine, rng
        design = model.design
        if not keep_data:
            model = clone(model, prior_sample(model, 1, rng).y[0])
        self.model = model
        self.plan = engine.prepare(model)
        self.chain: Any = self.plan.new_chain(np.random.default_rng(rng.integers(2**31)))
        self._warm_up()
        P, q = design.X.shape[1], self.plan.coefficients
        # from the kernels' coordinates to printed ones the map is affine: its columns are images of unit vectors
        units = self.plan.shape(1 + P + q, True)
        for part in (units.beta, units.b, units.dispersion):
            part[:] = 0.0
        units.L[:] = 0.0
        for r in range(units.L.shape[1]):
            units.L[:, r] = np.eye(units.L.shape[2])
        units.dispersion[:] = 1.0
        units.beta[1 : 1 + P] = np.eye(P)
        units.b[1 + P :] = np.eye(q)
        printed = self._named(units)
        images = linear_predictor(model, printed.beta, printed.b)
        self.constant = images[0]
        self.columns = (images[1:] - images[0]).T  # (rows, P + q)
        self._lay_out_data()

    def _warm_up(self) -> None:
        """Fit the proposals to the posterior of the first data; then they are frozen, and right for any data."""
        scan = 0
        while scan < WARMUP:
            size = min(self.chain.boundary(scan), WARMUP) - scan
            assert self.chain.advance(size, 1, self.plan.shape(size, False)) == size
            scan += size
            self.chain.adapt(scan, WARMUP)

    def _named(self, draws: Any) -> Sample:
        """Name the draws as the engine does."""
        named = {name: values[0] for name, values in self.plan.finish([draws]).items()}
        groupings = self.model.design.groupings
        scale = None
        if self.model.family.dispersion in named:
            value = named[self.model.family.dispersion].reshape(len(draws.beta), -1)
            scale = value if self.model.family.dispersion == "sigma" else 1.0 / np.sqrt(value)
        cor = [named[f"cor_{g.name}"][:, 0, 1] if f"cor_{g.name}" in named else None for g in groupings]
        return Sample(
            named["beta"], [named[f"b_{g.name}"] for g in groupings], [named[f"sd_{g.name}"] for g in groupings],
            cor, scale, np.empty((len(draws.beta), 0)),
        )  # fmt: skip

    def _lay_out_data(self) -> None:
        """Find out where the chain keeps its data."""
        design = self.model.design
        if isinstance(self.engine, Metropolis):
            numbered = glmm_target(clone(self.model, np.arange(design.n, dtype=float)))[1]
            self.place = numbered.rows.y.astype(int)
            self.respond = self._respond_by_rows
            return
        weights = design.weights if design.standard_errors is None else design.weights / design.standard_errors**2
        P = design.X.shape[1]
        if isinstance(self.chain, CrossedChain):
            self.weights, self.respond = weights, self._respond_by_factors
            return
        J, p = self.chain.target.arrow.a.shape
        eliminated = self.columns[:, P : P + J * p]
        self.rest = np.hstack([self.columns[:, P + J * p :], self.columns[:, :P]]) * weights[:, None]
        cells = self.chain.target.cells
        self.of_cell = []
        for group, level in zip(cells.group, cells.level, strict=True):
            mine = eliminated[:, group * p : (group + 1) * p] * weights[:, None]
            self.of_cell.append(mine * (design.sigma_codes == level)[:, None])
        self.of_cell = np.concatenate(self.of_cell, axis=1).T if len(cells.group) else np.zeros((0, design.n))
        self.of_level = [np.flatnonzero(design.sigma_codes == s) for s in range(len(design.sigma_levels))]
        self.weights = weights
        self.respond = self._respond_by_sums

    def _respond_by_rows(self, y: Array) -> None:
        target, state = self.chain.target, self.chain.state
        target.rows.y[:] = y[self.place]
        # what a chain remembers of the likelihood is that of the old data
        state.likelihood[:] = np.nan
        state.total[:] = np.nan

    def _respond_by_sums(self, y: Array) -> None:
        cells = self.chain.target.cells
        e = y - self.constant
        cells.a[:] = (self.of_cell @ e).reshape(cells.a.shape)
        for s, rows in enumerate(self.of_level):
            cells.d[s] = e[rows] @ self.rest[rows]
            cells.squares[s] = (self.weights[rows] * e[rows]) @ e[rows]
        if hasattr(self.chain, "theta"):  # collapsed: the density of where it stands changes with the data
            self.chain.value = collapsed.log_marginal(self.chain.packed, self.chain.states[0], self.chain.theta)

    def _respond_by_factors(self, y: Array) -> None:
        target, design = self.chain.target, self.model.design
        e = y - self.constant
        P = design.X.shape[1]
        for s in range(len(target.rows)):
            mine = np.where(design.sigma_codes == s, self.weights, 0.0) * e
            sums = mine @ self.columns
            target.d[s], target.a[s], target.squares[s] = sums[:P], sums[P:], mine @ e

    def run(self, sweeps: int) -> Sample:
        """Alternate scans and new data."""
        design, family = self.model.design, self.model.family
        out = self.plan.shape(sweeps, True)
        y = np.empty((sweeps, design.n))
        if not self.plan.coefficients:
            out.b = np.empty((sweeps, 0))
        for i in range(sweeps):
            part = out.part(slice(i, i + 1))
            assert self.chain.advance(1, 1, part) == 1
            eta = self.constant + self.columns @ np.concatenate([part.beta[0], part.b[0]])
            dispersion = None
            if family.dispersion is not None:
                dispersion = (
                    design.standard_errors if self.model.dispersion_known else part.dispersion[0][design.sigma_codes]
                )
            y[i] = family.sample(self.rng, eta, dispersion, design.trials, design.weights)
            self.respond(y[i])
        sample = self._named(out)
        sample.y = y
        return sample


# ---- the comparison -----------------------------------------------------------------------------


def _response_score(model: Model, y: Array) -> Array:
    """The response on a scale on which it has moments."""
    name = model.family.name
    if name in ("bernoulli", "binomial"):
        return y / np.maximum(model.design.trials, 1.0)
    if name == "gamma":
        return np.log(y)
    return np.arcsinh(y)


def functions(model: Model, sample: Sample) -> dict[str, Array]:
    """Twenty functions or more of parameters and data, each (draws,)."""
    out: dict[str, Array] = {}
    beta = sample.beta
    eta = linear_predictor(model, beta, sample.b)
    t = _response_score(model, sample.y)
    for k in range(min(beta.shape[1], 2)):
        out[f"beta{k}"] = beta[:, k]
        out[f"beta{k}²"] = beta[:, k] ** 2
    if beta.shape[1] > 1:
        out["beta0 beta1"] = beta[:, 0] * beta[:, 1]
    for g, (b, sd, cor) in enumerate(zip(sample.b, sample.sd, sample.cor, strict=True)):
        for k in range(sd.shape[1]):
            out[f"sd{g}{k}"] = np.sqrt(sd[:, k])
            out[f"log sd{g}{k}"] = np.log1p(sd[:, k] ** 2)
            out[f"b{g}{k}²"] = np.tanh(b[:, 0, k]) ** 2
        if sd.shape[1] > 1:
            out[f"sd{g}0 sd{g}1"] = np.sqrt(sd[:, 0] * sd[:, 1])
        if cor is not None:
            out[f"cor{g}"] = cor
            out[f"cor{g}²"] = cor**2
            out[f"cor{g} b b"] = cor * np.tanh(b[:, 0, 0] * b[:, 0, 1])
        out[f"b{g}"] = np.tanh(b[:, 0, 0])
        out[f"b{g} b'{g}"] = np.tanh(b[:, 0, 0]) * np.tanh(b[:, -1, 0])
        if beta.shape[1]:
            out[f"beta b{g}"] = beta[:, 0] * np.tanh(b[:, -1, 0])
    if sample.scale is not None:
        for s in range(sample.scale.shape[1]):
            out[f"scale{s}"] = np.sqrt(sample.scale[:, s])
            out[f"log scale{s}"] = np.log1p(sample.scale[:, s] ** 2)
    out["y"] = t.mean(axis=1)
    out["y²"] = (t**2).mean(axis=1)
    out["y spread"] = t.std(axis=1)
    out["y0 y1"] = t[:, 0] * t[:, 1]
    out["y0 eta0"] = t[:, 0] * np.tanh(eta[:, 0])
    out["tanh eta"] = np.tanh(eta).mean(axis=1)
    out["eta0 eta1"] = np.tanh(eta[:, 0]) * np.tanh(eta[:, -1])
    return out


def standard_error(x: Array) -> float:
    """Of the mean of a chain: autocovariances summed over Geyer's initial monotone positive sequence."""
    n = len(x)
    centred = x - x.mean()
    if not centred.any():
        return 0.0
    spectrum = np.abs(np.fft.rfft(centred, 2 * n)) ** 2
    covariance = np.fft.irfft(spectrum)[:n] / n
    pairs = covariance[0 : n - n % 2 : 2] + covariance[1::2][: n // 2]
    stop = np.flatnonzero(pairs <= 0.0)
    pairs = np.minimum.accumulate(pairs[: int(stop[0]) if len(stop) else len(pairs)])
    return float(np.sqrt(max(2.0 * pairs.sum() - covariance[0], covariance[0] / n) / n))


def z_scores(
    model: Model, engine: Gibbs | Metropolis, sweeps: int, seed: int, prior: Sample | None = None
) -> dict[str, float]:
    """z of every function: successive-conditional against marginal-conditional simulator."""
    rng = np.random.default_rng(seed)
    if prior is None:
        prior = prior_sample(model, 4 * sweeps, rng)
    chain = Successive(model, engine, rng).run(sweeps)
    wanted, found = functions(model, prior), functions(model, chain)
    out = {}
    for name, x in found.items():
        assert np.isfinite(x).all(), name
        reference = wanted[name]
        error = np.hypot(standard_error(x), reference.std() / np.sqrt(len(reference)))
        out[name] = float((x.mean() - reference.mean()) / error)
    return out


def worst(z: dict[str, float]) -> tuple[str, float]:
    """The function that is furthest off."""
    name = max(z, key=lambda key: abs(z[key]))
    return name, z[name]
