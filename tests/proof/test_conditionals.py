"""Coefficients: every full conditional of the Gibbs samplers against differences of the joint log density.

The kernels run as plain Python with scripted random numbers. A number drawn is then a known map of scripted ones, and
its density follows from theirs: for two scripts the difference must be that of the slow joint density, to 1e-9, at 100 random states.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import oracle
from bayou.priors import Flat, Normal
from oracle import Point
from proof.desks import KERNELS, STATES, Desk, dimension, gaussian_blocks, same, with_state
from proof.models import PRIOR_KINDS, PRIORS, STRUCTURES, build
from proof.uncompiled import ACCEPT, Script, UsedUp, check_slice, turning_points

coefficients, schur = KERNELS["engines.lmm.coefficients"], KERNELS["linalg.schur"]


# ---- coefficients -------------------------------------------------------------------------------


@pytest.mark.parametrize("structure", [s for s in STRUCTURES if "|" in STRUCTURES[s][0]])
def test_group_coefficients_given_the_rest(structure: str, rng: np.random.Generator) -> None:
    model = build(structure)
    for _ in range(STATES):
        desk = Desk(model, rng)
        sizes = [int(p) for J, p in zip(desk.target.levels, desk.target.sizes, strict=True) for _ in range(J)]

        def run(script: Script, desk: Desk = desk) -> None:
            coefficients.draw_groups(desk.target, desk.state, desk.w, script)

        gaussian_blocks(desk, run, sizes, desk.joint)
    assert dimension(desk, run, sum(sizes)) == sum(sizes)


@pytest.mark.parametrize("structure", [s for s in STRUCTURES if not STRUCTURES[s][0].startswith("0")])
def test_fixed_effects_given_the_rest(structure: str, rng: np.random.Generator) -> None:
    model = build(structure)
    P = model.design.X.shape[1]
    for _ in range(STATES):
        desk = Desk(model, rng)

        def run(script: Script, desk: Desk = desk) -> None:
            coefficients.draw_fixed(desk.target, desk.state, desk.w, False, script)

        gaussian_blocks(desk, run, [P], desk.joint)
    assert dimension(desk, run, P) == P


@pytest.mark.parametrize(
    "prior", [Flat(), Normal([0.3, -0.2], cov=[[0.5, 0.2], [0.2, 0.3]])], ids=["flat", "correlated"]
)
@pytest.mark.parametrize("how", ["given the groups", "at once", "lines held"])
def test_coefficients_under_other_priors(prior: Any, how: str, rng: np.random.Generator) -> None:
    model, proper = build("slopes", "gaussian", {**PRIORS, "beta": prior}), build("slopes")
    for _ in range(STATES):
        desk = with_state(model, Desk, rng, proper)
        n = 10 if how == "at once" else 2

        def run(script: Script, desk: Desk = desk) -> None:
            target, state = desk.target, desk.state
            if how == "given the groups":
                coefficients.draw_fixed(target, state, desk.w, False, script)
            elif how == "lines held":
                coefficients.draw_centres(target, state, script)
            else:
                assert schur.factorise(target.arrow, target.border, desk.w, state.Q, state.factor)[0]
                schur.draw(target.arrow, state.factor, state.rest, state.b, 0, script)

        gaussian_blocks(desk, run, [n], desk.joint)
    assert dimension(desk, run, n) == n


@pytest.mark.parametrize("structure", ["group-level column", "crossed", "intercepts", "two sigmas"])
def test_fixed_effects_that_no_group_is_centred_on(structure: str, rng: np.random.Generator) -> None:
    model = build(structure)
    for _ in range(STATES):
        desk = Desk(model, rng)
        free = int((desk.target.moves.covered == 0).sum())

        def run(script: Script, desk: Desk = desk) -> None:
            coefficients.draw_fixed(desk.target, desk.state, desk.w, True, script)

        gaussian_blocks(desk, run, [free], desk.joint)


@pytest.mark.parametrize("structure", ["slopes", "crossed", "nested", "group-level column", "uncorrelated", "offset"])
def test_fixed_effects_with_the_lines_of_the_groups_held(structure: str, rng: np.random.Generator) -> None:
    model = build(structure)
    for _ in range(STATES):
        desk = Desk(model, rng)
        centring = desk.target.moves
        sizes = [int(n) for n in np.diff(centring.first) if n]
        sizes += [int(desk.target.levels[g]) for g in centring.parent]
        before = oracle.linear_predictor(model, desk.here.beta, desk.here.b)

        def run(script: Script, desk: Desk = desk) -> None:
            coefficients.draw_centres(desk.target, desk.state, script)

        gaussian_blocks(desk, run, sizes, desk.joint)
        after = desk.point()
        np.testing.assert_allclose(oracle.linear_predictor(model, after.beta, after.b), before, atol=1e-9)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_all_coefficients_at_once(structure: str, rng: np.random.Generator) -> None:
    """beta with b integrated out, then b given beta: together the joint conditional."""
    model = build(structure)
    for _ in range(STATES):
        desk = Desk(model, rng)
        n = int((desk.target.levels * desk.target.sizes).sum()) + model.design.X.shape[1]

        def run(script: Script, desk: Desk = desk) -> None:
            target, state = desk.target, desk.state
            assert schur.factorise(target.arrow, target.border, desk.w, state.Q, state.factor)[0]
            schur.draw(target.arrow, state.factor, state.rest, state.b, 0, script)

        gaussian_blocks(desk, run, [n], desk.joint)
    assert dimension(desk, run, n) == n


@pytest.mark.parametrize("structure", ["slopes", "crossed", "two sigmas", "no groups", "measured"])
def test_beta_with_the_group_coefficients_integrated_out(structure: str, rng: np.random.Generator) -> None:
    """The rest is drawn first: with one factor that is beta alone, from p(beta | y, Sigma, sigma)."""
    model = build(structure)
    for _ in range(STATES):
        desk = Desk(model, rng)
        target, state = desk.target, desk.state
        mean, V = oracle.conditional(desk.model, desk.here.Sigma, desk.here.dispersion)
        # the columns of the oracle: all factors of the design, then beta; the eliminated factor is left out
        sizes = [b.size for b in desk.here.b]
        keep = np.ones(len(mean), dtype=bool)
        if sizes:
            first = desk.sums.order[0]
            keep[sum(sizes[:first]) : sum(sizes[: first + 1])] = False
        mean, V = mean[keep], V[np.ix_(keep, keep)]
        n = int(keep.sum())
        found = []
        for _ in range(2):
            z = rng.standard_normal(n)
            desk.reset()
            assert schur.factorise(target.arrow, target.border, desk.w, state.Q, state.factor)[0]
            script = Script(z)
            try:
                schur.draw(target.arrow, state.factor, state.rest, state.b, 0, script)
            except UsedUp:
                pass
            point = desk.point()
            b = [v for g, v in enumerate(point.b) if g != desk.sums.order[0]]
            e = np.concatenate([*(v.ravel() for v in b), point.beta]) - mean
            found.append((-0.5 * e @ np.linalg.solve(V, e), -0.5 * z @ z))
        same(found[0][0] - found[1][0], found[0][1] - found[1][1], found[0][0])


@pytest.mark.parametrize("kind", ["any prior on beta", "bounded beta"])
def test_fixed_effects_with_any_prior(kind: str, rng: np.random.Generator) -> None:
    """draw_fixed proposes as if their priors were flat, and accepts on their ratio."""
    model = build("slopes", "gaussian", PRIOR_KINDS[kind])
    P = model.design.X.shape[1]
    decided = 0
    for _ in range(STATES):
        desk = Desk(model, rng)

        def run(z: np.ndarray, exponential: float, desk: Desk = desk) -> np.ndarray:
            desk.reset()
            coefficients.draw_fixed(desk.target, desk.state, desk.w, False, Script(z, [exponential]))
            return desk.point().beta

        # the proposal m + S z: columns of S from unit normals, always accepted where the density is positive
        flat = desk.target._replace(beta_codes=np.zeros(0, dtype=np.int64))

        def proposed(z: np.ndarray, desk: Desk = desk, flat: Any = flat) -> np.ndarray:
            desk.reset()
            coefficients.draw_fixed(flat, desk.state, desk.w, False, Script(z))
            return desk.point().beta

        centre = proposed(np.zeros(P))
        S = np.array([proposed(e) - centre for e in np.eye(P)]).T
        back = np.linalg.solve(S, desk.here.beta - centre)
        z = rng.standard_normal(P)
        new = Point(centre + S @ z, desk.here.b, desk.here.Sigma, desk.here.dispersion)
        with np.errstate(divide="ignore"):
            ratio = desk.joint(new) - desk.joint(desk.here) - 0.5 * back @ back + 0.5 * z @ z
        if not np.isfinite(ratio):
            np.testing.assert_allclose(run(z, ACCEPT), desk.here.beta, atol=1e-9)
            continue
        (just,), (just_not,) = turning_points([ratio])
        np.testing.assert_allclose(run(z, just), new.beta, atol=1e-9)
        np.testing.assert_allclose(run(z, just_not), desk.here.beta, atol=1e-9)
        decided += 1
    assert decided > STATES / 10


@pytest.mark.parametrize("kind", ["any prior on beta", "bounded beta"])
def test_slices_of_fixed_effects_with_any_prior(kind: str, rng: np.random.Generator) -> None:
    """The last of them given all else but the other coefficients, which are integrated out."""
    model = build("slopes", "gaussian", {**PRIOR_KINDS[kind], "beta[Intercept]": PRIORS["beta"]})
    k = 1  # beta[x] alone has such a prior
    for _ in range(STATES):
        desk = Desk(model, rng)
        target, state = desk.target, desk.state
        mean, V = oracle.conditional(desk.model, desk.here.Sigma, desk.here.dispersion)
        m, v = mean[-1], V[-1, -1]
        prior = model.bound.beta_codes[k], model.bound.beta_parameters[k]

        def log_density(x: float, m: float = m, v: float = v, prior: Any = prior) -> float:
            density = oracle.binding.bound.from_code(int(prior[0]), prior[1]).log_density(x)
            return float(density) - 0.5 * (x - m) ** 2 / v

        # a ridge in the place of the prior keeps the system definite; it is taken off again, and makes steps shorter
        ridged = getattr(target, "ridged", target.border)
        ridge = ridged.precision[-1, -1] - target.border.precision[-1, -1]

        def run(script: Script, desk: Desk = desk, border: Any = ridged) -> float:
            desk.reset()
            assert schur.factorise(desk.target.arrow, border, desk.w, desk.state.Q, desk.state.factor)[0]
            try:
                coefficients.draw_coefficients_of_any_prior(desk.target, desk.state, script)
            except UsedUp as asked:
                if str(asked) != "exponential":  # of a second round, which begins where the first one ended
                    raise
            return float(desk.state.rest[-1])

        assert len(target.beta_codes) == 1 and state.rest[-1] == desk.here.beta[k]
        check_slice(run, log_density, float(desk.here.beta[k]), 3.0 / np.sqrt(1.0 / v + ridge), rng)
