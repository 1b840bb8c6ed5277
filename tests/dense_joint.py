"""The joint log density, slowly: from the formula, in the quantities as printed, and the Jacobian by differences.

    log p(q) = log p(y | eta, dispersion) + log p(x | theta) + log p(theta) + log p(beta) + log |d natural / d q|

The natural quantities: beta as printed, the lower triangle of each covariance matrix, internal coordinates of other
hyperparameters, s = sigma, 1/√phi or 1/√shape, coefficients of groups, and of structures their part on an orthonormal
basis of what the constraints leave. Densities by SciPy and by the classes of the priors; no kernel takes part.
"""

from __future__ import annotations

import numpy as np
from scipy import linalg, special, stats

from bayou import binding
from bayou.binding import log_density_block
from bayou.effects.constrained import complement
from bayou.joint import JointDensity
from bayou.model import Model

LOG_TWO_PI = float(np.log(2.0 * np.pi))


def rows(model: Model, eta: np.ndarray, dispersion: np.ndarray | float) -> float:
    """log p(y | eta), by SciPy."""
    d, name = model.design, model.family.name
    y, w = d.y, d.weights
    mu = model.family.mean(eta)
    if name == "gaussian":
        return float(stats.norm.logpdf(y, mu, np.asarray(dispersion) / np.sqrt(w)).sum())
    if name in ("bernoulli", "binomial"):
        log_p, log_q = {  # a probability that rounds to one is none
            "logit": (-np.logaddexp(0.0, -eta), -np.logaddexp(0.0, eta)),
            "probit": (special.log_ndtr(eta), special.log_ndtr(-eta)),
            "cloglog": (np.log(-np.expm1(-np.exp(eta))), -np.exp(eta)),
        }[model.family.link.name]
        ways = special.gammaln(d.trials + 1.0) - special.gammaln(y + 1.0) - special.gammaln(d.trials - y + 1.0)
        return float((w * (ways + y * log_p + (d.trials - y) * log_q)).sum())
    if name == "poisson":
        return float((w * stats.poisson.logpmf(y, mu)).sum())
    if name == "gamma":
        return float((w * stats.gamma.logpdf(y, dispersion, scale=mu / dispersion)).sum())
    assert name == "negative_binomial"
    phi = np.broadcast_to(dispersion, y.shape)
    own = special.gammaln(y + phi) - special.gammaln(phi) - special.gammaln(y + 1.0)
    return float((w * (own + phi * np.log(phi / (phi + mu)) + y * np.log(mu / (phi + mu)))).sum())


class DenseJoint:
    """The oracle of one density: `value(q)`."""

    def __init__(self, density: JointDensity) -> None:
        self.density, self.model = density, density.model
        design = self.model.design
        self.bases = []
        for part in density.parts:
            effect = part.effect
            size = effect.observed if effect.kind == "bym2" else effect.size
            C = np.zeros((0, size)) if effect.kind == "bym2" else effect.constraints
            self.bases.append(complement(C, size))
        self.sigma_codes = design.sigma_codes

    # ---- natural quantities ----------------------------------------------------------------

    def covariances(self, named: dict[str, np.ndarray]) -> list[np.ndarray]:
        out = []
        for block in self.model.bound.blocks:
            g = self.model.design.groupings[block.grouping]
            at = list(block.columns)
            sd = named[f"sd_{g.name}"][at]
            cor = named[f"cor_{g.name}"][np.ix_(at, at)] if len(at) > 1 else np.eye(1)
            out.append(cor * np.outer(sd, sd))
        return out

    def dispersion(self, named: dict[str, np.ndarray]) -> np.ndarray:
        name = self.model.family.dispersion
        if name is None or self.model.dispersion_known:
            return np.zeros(0)
        return np.atleast_1d(named[name])

    def structures(self, named: dict[str, np.ndarray]):
        """Each structured effect: its component, internal theta, coefficients (copies, size)."""
        for part, basis in zip(self.density.parts, self.bases, strict=True):
            if part.grouping >= 0:
                continue
            theta = [h.internal(float(named[f"{h.role}_{part.name}"])) for h in part.effect.hyperparameters]
            f = named[f"f_{part.name}"].reshape(part.effect.replicates, -1)
            yield part, basis, np.array(theta), f

    def vector(self, named: dict[str, np.ndarray]) -> np.ndarray:
        """The natural quantities one after the other."""
        out = [named["beta"]]
        out += [S[np.tril_indices(len(S))] for S in self.covariances(named)]
        s = self.dispersion(named)
        out.append(s if self.model.family.dispersion == "sigma" else s**-0.5)
        for part in self.density.parts:
            if part.grouping >= 0:
                out.append(named[f"b_{part.name}"][:, list(part.columns)].ravel())
        for _, basis, theta, f in self.structures(named):
            out += [theta, (f @ basis).ravel()]
        return np.concatenate(out)

    def at(self, q: np.ndarray) -> dict[str, np.ndarray]:
        return {name: np.asarray(values) for name, values in self.density.natural(q).items()}

    def log_volume(self, q: np.ndarray) -> float:
        """log |d natural / d q| by central differences of sixth order."""
        h, size = 2e-3, len(q)
        J = np.zeros((size, size))
        for k in range(size):
            step = np.zeros(size)
            step[k] = h
            for times, weight in ((1, 0.75), (2, -0.15), (3, 1.0 / 60.0)):
                J[:, k] += weight * (self.vector(self.at(q + times * step)) - self.vector(self.at(q - times * step)))
        sign, value = np.linalg.slogdet(J / h)
        assert sign != 0.0
        return float(value)

    # ---- densities -------------------------------------------------------------------------

    def linear(self, named: dict[str, np.ndarray]) -> np.ndarray:
        design = self.model.design
        eta = design.X @ named["beta"] + design.offset
        for g in design.groupings:
            eta = eta + (g.Z * named[f"b_{g.name}"][g.codes]).sum(axis=1)
        for part, _, _, f in self.structures(named):
            term = design.structured[part.term]
            for i in range(design.n):
                for e in range(term.start[i], term.start[i + 1]):
                    eta[i] += term.value[e] * f[term.replicate[e], term.node[e]]
        return eta

    def natural_value(self, named: dict[str, np.ndarray]) -> float:
        """The log density of the natural quantities."""
        model, bound = self.model, self.model.bound
        s = self.dispersion(named)
        given = model.design.standard_errors if model.dispersion_known else s[self.sigma_codes] if len(s) else 1.0
        total = rows(model, self.linear(named), given) + binding.log_density_beta(bound, named["beta"])
        for block, S in zip(bound.blocks, self.covariances(named), strict=True):
            total += log_density_block(block, S)
            b = named[f"b_{model.design.groupings[block.grouping].name}"][:, list(block.columns)]
            total += float(np.sum(stats.multivariate_normal.logpdf(b, np.zeros(len(S)), S)))
        if len(s):
            scale = s if model.family.dispersion == "sigma" else s**-0.5
            total += float(np.sum(binding.log_density_dispersion(bound, scale)))
        for part, basis, theta, f in self.structures(named):
            priors = zip(bound.structured[part.term], part.effect.hyperparameters, theta, strict=True)
            total += sum(binding.log_density_structured(p, h, float(t)) for p, h, t in priors)
            total += sum(self.structure_value(part.effect, basis, theta, row) for row in f)
        return float(total)

    def structure_value(self, effect, basis: np.ndarray, theta: np.ndarray, f: np.ndarray) -> float:
        """log p(f | theta) of one copy, on the subspace."""
        if effect.kind == "bym2":  # the spatial part is integrated out
            m = effect.observed
            return float(stats.multivariate_normal.logpdf(f, np.zeros(m), effect.covariance(theta)[:m, :m]))
        assert np.allclose(effect.constraints @ f, 0.0, atol=1e-9 * (1.0 + np.abs(f).max()))
        Q = basis.T @ effect.dense(theta) @ basis
        values = linalg.eigvalsh(Q)[effect.null :]
        z = basis.T @ f
        return float(0.5 * np.log(values).sum() - 0.5 * len(values) * LOG_TWO_PI - 0.5 * z @ Q @ z)

    def value(self, q: np.ndarray) -> float:
        """The log density of the position."""
        return self.natural_value(self.at(q)) + self.log_volume(q)


def differences(density: JointDensity, q: np.ndarray, h: float = 1e-4, at: np.ndarray | None = None) -> np.ndarray:
    """The gradient by central differences of fourth order, or what of it is asked."""
    out = np.zeros(len(q))
    for k in range(len(q)) if at is None else at:
        step = np.zeros(len(q))
        step[k] = h
        near = density.evaluate(q + step)[0] - density.evaluate(q - step)[0]
        far = density.evaluate(q + 2 * step)[0] - density.evaluate(q - 2 * step)[0]
        out[k] = (8.0 * near - far) / (12.0 * h)
    return out
