"""Covariances and residual sds: every conditional of the Gibbs samplers against the joint log density, to 1e-9."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import stats

import oracle
from bayou.priors import Exponential, Flat, FlatSD, Gamma, HalfT, InverseGamma, Jeffreys, Normal, Uniform
from oracle import Point
from proof.desks import (
    KERNELS,
    STATES,
    Desk,
    RowDesk,
    check_conjugate_scale,
    element,
    log_gamma,
    log_jacobian,
    same,
    with_state,
)
from proof.models import PRIOR_KINDS, PRIORS, build
from proof.uncompiled import Script, UsedUp, check_slice

moves, whitened, lmm = (KERNELS[f"engines.{n}"] for n in ("moves", "lmm.whitened", "lmm.scan"))
collapsed, states, glmm = (KERNELS[f"engines.{n}"] for n in ("lmm.collapsed", "lmm.state", "glmm.scan"))

WISHART = {"beta": Normal(0, 0.7), "Sigma": PRIOR_KINDS["inverse Wishart"]["Sigma"]}
SD_KINDS: dict[str, Any] = {
    "half-normal": PRIORS["sd"],
    "half-t": HalfT(3, 0.5),
    "exponential": Exponential(2.0),
    "uniform": Uniform(0.1, 3.0),
}
CONJUGATE: dict[str, dict[str, Any]] = {
    "InverseGamma on the variance": {"variance_g": InverseGamma(3.0, 0.6), "sigma2": InverseGamma(4.0, 1.5)},
    "Gamma on the precision": {"precision_g": Gamma(3.0, 0.6), "sigma": Gamma(4.0, 1.5)},
    "flat sd": {"sd_g": FlatSD(), "sigma": FlatSD()},
    "flat variance": {"variance_g": Flat(), "sigma2": Flat()},
    "Jeffreys": {"sd_g": PRIORS["sd"], "sigma": Jeffreys()},
}


# ---- residual sds -------------------------------------------------------------------------------


def draw_sigma(desk: Desk) -> Callable[[Script], None]:
    return lambda script: lmm.draw_sigma(desk.target, desk.state, desk.state.by_sigma[1], script)


@pytest.mark.parametrize(
    ("structure", "kind"),
    [(s, k) for s in ("slopes", "two sigmas", "weights") for k in CONJUGATE if (s, k) != ("two sigmas", "Jeffreys")],
)
def test_conjugate_sigma(kind: str, structure: str, rng: np.random.Generator) -> None:
    priors = {**PRIORS, **{k: v for k, v in CONJUGATE[kind].items() if not k.endswith("_g")}}
    model, proper = build(structure, "gaussian", priors), build(structure)
    for _ in range(STATES // 2):
        desk = with_state(model, Desk, rng, proper)
        check_conjugate_scale(desk, draw_sigma(desk), lambda point: float(point.dispersion[0]))


@pytest.mark.parametrize("kind", SD_KINDS)
def test_sliced_sigma(kind: str, rng: np.random.Generator) -> None:
    model = build("slopes", "gaussian", {**PRIORS, "sigma": SD_KINDS[kind]})
    for _ in range(STATES):
        desk = Desk(model, rng)
        here = desk.here

        def log_density(x: float, desk: Desk = desk, here: Point = here) -> float:
            with np.errstate(divide="ignore"):
                return desk.joint(Point(here.beta, here.b, here.Sigma, np.exp([x]))) + x

        def run(script: Script, desk: Desk = desk) -> float:
            desk.reset()
            draw_sigma(desk)(script)
            return float(np.log(desk.state.sigma[0]))

        check_slice(run, log_density, float(np.log(here.dispersion[0])), 1.0, rng)


# ---- covariance blocks given their coefficients -------------------------------------------------


def scatter(desk: Desk, r: int) -> np.ndarray:
    out = np.zeros((2, 2))
    states.scatter_of(desk.target, desk.state, r, out)
    return out


def draw_block(desk: Desk, r: int, script: Script) -> bool:
    blocks = desk.target.blocks
    J = float(desk.target.levels[blocks.grouping[r]])
    state = desk.state
    return bool(moves.draw_block(blocks, r, J, scatter(desk, r), state.L[r], state.work[3:6], state.work[2], script))


@pytest.mark.parametrize("kind", [k for k in CONJUGATE if k != "Jeffreys"])
def test_conjugate_sd(kind: str, rng: np.random.Generator) -> None:
    given = {k: v for k, v in CONJUGATE[kind].items() if k.endswith("_g")}
    model = build("intercepts", "gaussian", {"beta": PRIORS["beta"], **given})
    proper = build("intercepts")
    for _ in range(STATES):
        desk = with_state(model, Desk, rng, proper)
        check_conjugate_scale(
            desk, lambda script, desk=desk: draw_block(desk, 0, script), lambda p: float(np.sqrt(p.Sigma[0][0, 0])), 4.0
        )


@pytest.mark.parametrize("kind", [k for k in SD_KINDS if k != "half-t"])  # of one sd: Huang & Wand's, below
def test_sliced_sd(kind: str, rng: np.random.Generator) -> None:
    model = build("intercepts", "gaussian", {**PRIORS, "sd": SD_KINDS[kind]})
    for _ in range(STATES):
        desk = Desk(model, rng)
        here = desk.here

        def log_density(x: float, desk: Desk = desk, here: Point = here) -> float:
            # the joint density is that of the variance: d sd² = 2 sd d sd
            with np.errstate(divide="ignore"):
                return desk.joint(Point(here.beta, here.b, [np.exp([[2.0 * x]])], here.dispersion)) + 2.0 * x

        def run(script: Script, desk: Desk = desk) -> float:
            desk.reset()
            draw_block(desk, 0, script)
            return float(np.log(desk.state.L[0, 0, 0]))

        check_slice(run, log_density, 0.5 * float(np.log(here.Sigma[0][0, 0])), 1.0, rng)


def log_bartlett(p: int, script: Script, normals: list[float], gammas: list[float], at: int) -> float:
    """Log density, on its lower triangle, of Sigma = C (B B')⁻¹ C' made of scripted numbers.

    B_ii² = 2 gamma_i, normals below; W = B B' has d W = 2^p Π B_ii^(p − i) d B (i from 0), and
    d Sigma = |W|^-(p + 1) d W up to a constant.
    """
    total = -0.5 * float(np.square(normals).sum())
    for i in range(p):
        root = np.sqrt(2.0 * gammas[i])
        total += (2.0 * script.shapes[at + i] - 1.0) * np.log(root) - 0.5 * root**2
        total += (p + 2.0 + i) * np.log(root)
    return total


@pytest.mark.parametrize("structure", ["slopes", "intercepts"])
@pytest.mark.parametrize("rows", [False, True], ids=["sums", "rows"])
def test_inverse_wishart_block(structure: str, rows: bool, rng: np.random.Generator) -> None:
    model = build(structure, "gaussian", WISHART)
    for _ in range(STATES):
        desk = RowDesk(model, rng) if rows else Desk(model, rng)
        p = len(desk.here.Sigma[0])
        found = []
        for _ in range(2):
            normals, gammas = list(rng.standard_normal(p * (p - 1) // 2)), list(rng.gamma(3.0, size=p))
            script = Script(normals, gammas=gammas)
            desk.reset()
            if rows:
                assert glmm.move_covariances(desk.target, desk.state, script)
            else:
                assert draw_block(desk, 0, script)
            found.append((desk.joint(), log_bartlett(p, script, normals, gammas, 0)))
        same(found[0][0] - found[1][0], found[0][1] - found[1][1], found[0][0])


def log_hierarchy(df: float, A: np.ndarray, a: np.ndarray, Sigma: np.ndarray) -> float:
    """log p(Sigma | a) + log p(a): InverseWishart(df + p − 1, 2 df diag(1/a)), a_k ~ InverseGamma(1/2, 1/A_k²)."""
    p = len(A)
    scale = np.diag(2.0 * df / a)
    total = float(stats.invwishart.logpdf(Sigma, df + p - 1.0, scale)) if p > 1 else 0.0
    if p == 1:
        total = float(stats.invgamma.logpdf(Sigma[0, 0], 0.5 * df, scale=0.5 * scale[0, 0]))
    return total + float(stats.invgamma.logpdf(a, 0.5, scale=1.0 / A**2).sum())


@pytest.mark.parametrize(
    ("structure", "prior"),
    [
        ("slopes", {"Sigma": PRIOR_KINDS["Huang-Wand"]["Sigma"]}),
        ("intercepts", {"Sigma": PRIOR_KINDS["Huang-Wand"]["Sigma"]}),
        ("intercepts", {"sd": HalfT(3, 0.5)}),
    ],
    ids=["slopes", "intercepts", "half-t"],
)
def test_huang_wand_block(
    structure: str, prior: dict[str, Any], rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both steps: a given Sigma, then Sigma given a."""
    model = build(structure, "gaussian", {"beta": Normal(0, 0.7), **prior})
    scales: list[np.ndarray] = []
    own = moves.draw_inverse_wishart

    def look(df: float, S: np.ndarray, *rest: Any) -> bool:
        scales.append(S[: rest[3], : rest[3]].copy())
        return bool(own(df, S, *rest))

    monkeypatch.setattr(moves, "draw_inverse_wishart", look)
    df, A = model.bound.blocks[0].df, model.bound.blocks[0].A
    for _ in range(STATES):
        desk = Desk(model, rng)
        here, p = desk.here, len(A)
        rest = desk.joint() - oracle.log_density_block(model.bound.blocks[0], here.Sigma[0])
        of_a, of_Sigma = [], []
        first = list(rng.gamma(3.0, size=p))
        for a_gammas in (first, list(rng.gamma(3.0, size=p)), first):
            normals, gammas = list(rng.standard_normal(p * (p - 1) // 2)), list(rng.gamma(3.0, size=p))
            script = Script(normals, gammas=[*a_gammas, *gammas])
            desk.reset()
            S0 = scatter(desk, 0)[:p, :p]
            assert draw_block(desk, 0, script)
            a = 2.0 * df / np.diag(scales[-1] - S0)
            drawn = sum(log_gamma(script.shapes[k], g) for k, g in enumerate(a_gammas)) - 2.0 * np.log(a).sum()
            of_a.append((log_hierarchy(df, A, a, here.Sigma[0]), drawn))
            point = desk.point()
            new = desk.joint(point) - oracle.log_density_block(model.bound.blocks[0], point.Sigma[0])
            of_Sigma.append(
                (new + log_hierarchy(df, A, a, point.Sigma[0]), log_bartlett(p, script, normals, gammas, p))
            )
        same(of_a[0][0] - of_a[1][0], of_a[0][1] - of_a[1][1], of_a[0][0])
        same(of_Sigma[0][0] - of_Sigma[2][0], of_Sigma[0][1] - of_Sigma[2][1], abs(of_Sigma[0][0]) + abs(rest))


@pytest.mark.parametrize("e", range(3))
@pytest.mark.parametrize("kind", SD_KINDS)
def test_sliced_block(kind: str, e: int, rng: np.random.Generator) -> None:
    """Separate sds and an LKJ correlation: element by element of the factor."""
    model = build("slopes", "gaussian", {**PRIORS, "sd": SD_KINDS[kind]})
    done = 0
    while done < STATES:
        desk = Desk(model, rng)
        here = desk.here
        L = np.linalg.cholesky(here.Sigma[0])
        _, x, width = element(L, e)

        def log_density(x: float, desk: Desk = desk, here: Point = here, L: np.ndarray = L) -> float:
            new = element(L, e, x)[0]
            with np.errstate(divide="ignore"):
                joint = desk.joint(Point(here.beta, here.b, [new @ new.T], here.dispersion))
            return joint + log_jacobian(new, e)

        def run(script: Script, desk: Desk = desk) -> float:
            desk.reset()
            try:
                draw_block(desk, 0, script)
            except UsedUp as asked:
                if str(asked) != "exponential":  # of the next element: this one has been drawn
                    raise
            return element(desk.state.L[0], e)[1]

        done += check_slice(run, log_density, x, width, rng, holds=e, floor=-9.0 if e == 2 else -np.inf)
