"""Metropolis-within-Gibbs: moves of covariances that take coefficients along, against the joint log density, to 1e-9.

As in `test_proposals`: every proposal is recomputed densely, and acceptance is asked at its turning point.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import oracle
from bayou.effects.iid import coordinates_from_factor, factor_from_coordinates
from bayou.model import Model
from oracle import Point
from proof.desks import KERNELS, STATES, Array, RowDesk, decide, dimension, gaussian_blocks, newton
from proof.models import FAMILIES, PRIOR_KINDS, build
from proof.uncompiled import REJECT, Script, UsedUp, check_slice

whitened, nested, carried = (KERNELS[f"engines.glmm.{name}"] for name in ("whitened", "nested", "carried"))


# ---- the whitened coefficients held --------------------------------------------------------------


def transformed(model: Model, here: Point, r: int, T: Array) -> Point:
    """b -> T b and Sigma -> T Sigma T' of one block."""
    block = model.bound.blocks[r]
    columns = list(block.columns)
    b = [values.copy() for values in here.b]
    b[block.grouping][:, columns] = here.b[block.grouping][:, columns] @ T.T
    Sigma = list(here.Sigma)
    Sigma[r] = T @ Sigma[r] @ T.T
    return replace(here, b=b, Sigma=Sigma)


def check_transformation(
    desk: RowDesk, r: int, T: Array, log_q: float, before: int, uniforms: list[float], z: float
) -> None:
    """Accept at p(T x) |T|^(J + p + 1) / p(x) times the ratio of the densities of the step there and back."""
    here = desk.here
    there = transformed(desk.model, here, r, T)
    J = len(here.b[desk.model.bound.blocks[r].grouping])
    with np.errstate(divide="ignore"):
        ratio = desk.joint(there) - desk.joint(here) + (J + len(T) + 1.0) * np.linalg.slogdet(T)[1] + log_q

    def run(exponential: float) -> None:
        script = Script([0.0] * before + [z], [REJECT] * before + [exponential], uniforms=uniforms)
        try:
            whitened.move_whitened(desk.target, desk.state, False, script)
        except UsedUp:  # of the next scaling or shear
            pass

    def read() -> Array:
        point = desk.point()
        return np.concatenate([*(b.ravel() for b in point.b), *(S.ravel() for S in point.Sigma)])

    if np.isfinite(ratio):
        at = [np.concatenate([*(b.ravel() for b in p.b), *(S.ravel() for S in p.Sigma)]) for p in (here, there)]
        decide(desk, run, float(ratio), at[0], at[1], read)


@pytest.mark.parametrize("kind", ["sds", "inverse Wishart", "Huang-Wand", "uniform sd"])
@pytest.mark.parametrize("family", ["poisson", "bernoulli", "gaussian log", "gamma"])
def test_scalings(family: str, kind: str, rng: np.random.Generator) -> None:
    """b_k -> c b_k, with log c normal about zero: its density is the same on the way back."""
    model = build("slopes", family, PRIOR_KINDS.get(kind))
    for state in range(STATES // 2):
        desk = RowDesk(model, rng)
        k, z = state % 2, float(rng.standard_normal())
        T = np.eye(2)
        T[k, k] = np.exp(np.exp(desk.state.tune[0, k]) * z)
        check_transformation(desk, 0, T, 0.0, k, [], z)


def test_scalings_of_a_second_factor(rng: np.random.Generator) -> None:
    model = build("crossed", "poisson")
    for _ in range(STATES):
        desk = RowDesk(model, rng)
        z = float(rng.standard_normal())
        T = np.exp([[np.exp(desk.state.tune[1, 0]) * z]])
        # eight scalings and a shear of the first factor come before; a shear of nothing is tried too
        check_transformation(desk, 1, T, 0.0, 9, [0.1, 0.1], z)


@pytest.mark.parametrize("kind", ["sds", "inverse Wishart", "Huang-Wand", "uniform sd"])
@pytest.mark.parametrize("c", [0, 1])
def test_shears(c: int, kind: str, rng: np.random.Generator) -> None:
    """b_c -> b_c + d b_e, d normal with an sd that the shear does not change."""
    model = build("slopes", "poisson", PRIOR_KINDS.get(kind))
    e = 1 - c

    def spread(Sigma: Array, tune: float) -> float:
        """sd of c given the others over the sd of e, times the step."""
        return float(np.exp(tune) / np.sqrt(np.linalg.inv(Sigma)[c, c] * Sigma[e, e]))

    for _ in range(STATES):
        desk = RowDesk(model, rng)
        z = float(rng.standard_normal())
        Sigma = desk.here.Sigma[0]
        step = spread(Sigma, desk.state.tune[0, 2])
        T = np.eye(2)
        T[c, e] = step * z
        back = spread(T @ Sigma @ T.T, desk.state.tune[0, 2])
        log_q = -np.log(back) - 0.5 * (T[c, e] / back) ** 2 + np.log(step) + 0.5 * z * z
        check_transformation(desk, 0, T, float(log_q), 8, [0.5 * c + 0.1, 0.1], z)


# ---- every group carried along --------------------------------------------------------------------


def check_carried(model: Model, states: int, rng: np.random.Generator, f: int = 0) -> None:
    """T -> t' of one factor, R_j'(b_j − m_j) of every group held, m_j and R_j those of t and t'.

    t is the covariance, and the fixed effects where the factor is the only one.
    """
    working, P = model.working, len(model.bound.beta_mean) if len(model.design.groupings) == 1 else 0
    names, gaussian = list(model.design.coefficients), P - len(working.codes)
    decided = 0
    while decided < states:
        desk = RowDesk(model, rng)
        here, carrier, blocks = desk.here, desk.state.carrier, desk.target.blocks
        g, first = desk.order[f], int(carrier.first[f])
        grouping, p = model.design.groupings[g], model.design.groupings[g].Z.shape[1]
        places = [(r, int(blocks.start[r]), int(blocks.size[r])) for r in np.flatnonzero(blocks.grouping == f)]
        t = np.concatenate(
            [coordinates_from_factor(np.linalg.cholesky(here.Sigma[r])) for r, _, _ in places]
            + [np.linalg.solve(working.to_printed, here.beta)] * bool(P)
        )
        d = len(t)
        assert carrier.first[f + 1] == first + d
        carrier.ready[f] = 1
        carrier.angle[f] = rng.normal()
        carrier.centre[first : first + d] = t + 0.2 * rng.standard_normal(d)
        spread = np.tril(0.05 * rng.standard_normal((d, d)), -1) + np.diag(rng.uniform(0.1, 0.3, d))
        carrier.spread[f, :d, :d] = spread
        carrier.anchor[:] = 0.3 * rng.standard_normal(carrier.anchor.shape)
        at_b = int(desk.target.rows.at_b[f])
        anchor = carrier.anchor[at_b : at_b + here.b[g].size].reshape(-1, p).copy()
        centre = carrier.centre[first : first + d]
        phi = 0.5 * np.pi / (1.0 + np.exp(-carrier.angle[f]))
        uniforms = [0.5] if decided % 2 else [0.01, float(rng.random())]  # a step as it is tuned, or a shorter one
        if len(uniforms) == 2:
            phi *= uniforms[1] ** 2
        u, xi = np.linalg.solve(spread, t - centre), rng.standard_normal(d)
        z = np.cos(phi) * u + np.sin(phi) * xi
        t_new = centre + spread @ z
        sides, precisions = [], []
        for value in (t, t_new):
            Sigma, jacobian, cut, Q = list(here.Sigma), 0.0, 0, np.zeros((p, p))
            for r, start, size in places:
                L = np.zeros((size, size))
                jacobian += factor_from_coordinates(value, cut, size, L)
                cut += size * (size + 1) // 2
                Sigma[r] = np.tril(L) @ np.tril(L).T
                if np.isfinite(jacobian):
                    Q[start : start + size, start : start + size] = np.linalg.inv(Sigma[r])
            # each group's own line is held while the fixed effects leave the centre
            off = working.to_printed @ (value - centre)[d - P :] if P else np.zeros(0)
            held = [
                off[names.index(c)] if P and c in names and model.working_position(names.index(c)) < gaussian else 0.0
                for c in grouping.coefficients
            ]
            beta = working.to_printed @ value[d - P :] if P else here.beta
            b = [anchor - held if k == g else own for k, own in enumerate(here.b)]
            sides.append((jacobian, replace(here, beta=beta, Sigma=Sigma, b=b)))
            precisions.append(Q)
        if not np.isfinite(sides[1][0]):
            continue
        carried_to, log_det = np.empty_like(anchor), 0.0
        for j in range(len(anchor)):
            rows = grouping.codes == j
            m, R = [], []
            for (_, at), Q in zip(sides, precisions, strict=True):
                mode, H = newton(desk.model, at, grouping.Z[rows], rows, Q, np.zeros(p), at.b[g][j])
                m.append(mode)
                R.append(np.linalg.cholesky(H))
            carried_to[j] = m[1] + np.linalg.solve(R[1].T, R[0].T @ (here.b[g][j] - m[0]))
            log_det += float(np.log(np.diag(R[0]) / np.diag(R[1])).sum())
        there = replace(sides[1][1], b=[carried_to if k == g else own for k, own in enumerate(here.b)])
        with np.errstate(divide="ignore"):
            ratio = desk.joint(there) - desk.joint(here) + sides[1][0] - sides[0][0] + log_det
        ratio += 0.5 * float(z @ z - u @ u)
        if not np.isfinite(ratio):
            continue

        def run(exponential: float, desk: RowDesk = desk, xi: Array = xi, uniforms: list[float] = uniforms) -> None:
            carried.move_carried(desk.target, desk.state, False, Script(xi, [exponential], uniforms=uniforms))

        def laid_out(point: Point) -> Array:
            return np.concatenate([point.beta, *(x.ravel() for x in point.b), *(S.ravel() for S in point.Sigma)])

        def read(desk: RowDesk = desk) -> Array:
            return laid_out(desk.point())

        decide(desk, run, float(ratio), laid_out(here), laid_out(there), read)
        decided += 1


@pytest.mark.parametrize("structure", ["slopes", "intercepts"])
@pytest.mark.parametrize("family", [name for name in FAMILIES if name != "gaussian log"])
def test_groups_carried_along(family: str, structure: str, rng: np.random.Generator) -> None:
    check_carried(build(structure, family), STATES // 2, rng)


@pytest.mark.parametrize("kind", PRIOR_KINDS)
def test_groups_carried_along_under_every_prior(kind: str, rng: np.random.Generator) -> None:
    model = build("slopes", "poisson", PRIOR_KINDS[kind])
    check_carried(model, STATES // 2, rng)


@pytest.mark.parametrize("factor", [0, 1])
@pytest.mark.parametrize("structure", ["crossed", "slopes of two kinds", "nested"])
def test_groups_carried_along_beside_other_factors(structure: str, factor: int, rng: np.random.Generator) -> None:
    check_carried(build(structure, "poisson"), STATES // 2, rng, factor)


# ---- sds of nested factors given the sums of their coefficients -----------------------------------


def log_of_sums(desk: RowDesk, Sigma: list[Array]) -> float:
    """log p(sums of the effects down to the finest level | sds) + log p(sds), sums with their dense covariance."""
    groupings = desk.model.design.groupings
    finest = max(range(len(groupings)), key=lambda g: len(groupings[g].levels))
    J = len(groupings[finest].levels)
    t, V = np.zeros(J), np.zeros((J, J))
    for grouping, b, own in zip(groupings, desk.here.b, Sigma, strict=True):
        above = np.zeros(J, dtype=int)
        above[groupings[finest].codes] = grouping.codes
        t += b[above, 0]
        V += own[0, 0] * (above[:, None] == above)
    density = -0.5 * (np.linalg.slogdet(V)[1] + t @ np.linalg.solve(V, t))
    with np.errstate(divide="ignore"):
        return float(density) + oracle.log_prior(desk.model, replace(desk.here, Sigma=Sigma))


@pytest.mark.parametrize(("structure", "members"), [("nested", 2), ("three levels", 3)])
@pytest.mark.parametrize("kind", ["sds", "uniform sd", "half-t"])
def test_sds_given_the_sums(structure: str, members: int, kind: str, rng: np.random.Generator) -> None:
    model = build(structure, "poisson", PRIOR_KINDS.get(kind))
    for state in range(STATES):
        desk = RowDesk(model, rng)
        member = state % members
        assert len(desk.target.lineages.factor) == members
        r = int(desk.target.lineages.block[member])

        def log_density(x: float, desk: RowDesk = desk, r: int = r) -> float:
            Sigma = list(desk.here.Sigma)
            Sigma[r] = np.exp([[2.0 * x]])
            return log_of_sums(desk, Sigma) + 2.0 * x

        def run(script: Script, desk: RowDesk = desk, r: int = r) -> float:
            desk.reset()
            try:
                nested.move_lineages(desk.target, desk.state, script)
            except UsedUp as asked:
                if str(asked) == "uniform":
                    raise
            return float(np.log(desk.state.L[r, 0, 0]))

        check_slice(run, log_density, 0.5 * float(np.log(desk.here.Sigma[r][0, 0])), 1.0, rng, holds=member)


@pytest.mark.parametrize(("structure", "members"), [("nested", 2), ("three levels", 3)])
def test_effects_given_their_sums(structure: str, members: int, rng: np.random.Generator) -> None:
    model = build(structure, "poisson")
    for _ in range(STATES):
        desk = RowDesk(model, rng)
        levels = sorted(len(b) for b in desk.here.b)
        n = sum(levels[:-1])

        def run(script: Script, desk: RowDesk = desk) -> None:
            script.holds = members
            nested.move_lineages(desk.target, desk.state, script)

        gaussian_blocks(desk, run, [n], desk.joint)
        after = oracle.linear_predictor(model, desk.here.beta, desk.point().b)
        np.testing.assert_allclose(after, oracle.linear_predictor(model, desk.here.beta, desk.here.b), atol=1e-9)
    assert dimension(desk, run, n) == n
