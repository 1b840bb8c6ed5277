"""Metropolis-within-Gibbs: every move alone, whole scans, and what is kept up to date along the way.

As in `test_gibbs`: independent replicates of parameters from frozen proper priors, a response given them, and
moves given the response, which must leave the parameters distributed as the prior.
"""

import numpy as np
import pytest
from scipy.integrate import quad

import bayou
import oracle
from bayou.engines import Metropolis
from bayou.engines.draws import Draws
from bayou.engines.glmm import scan
from bayou.engines.glmm import state as states
from bayou.engines.glmm.carried import move_carried
from bayou.engines.glmm.carrier import coordinates
from bayou.engines.glmm.nested import move_lineages
from bayou.engines.glmm.population import move_fixed
from bayou.engines.glmm.whitened import move_whitened
from bayou.engines.metropolis import glmm_target, new_state
from bayou.errors import DataError, Unsupported
from bayou.families import Bernoulli, Binomial, Gamma, Gaussian, NegativeBinomial, Poisson
from bayou.families.rows import LANES
from bayou.jit import kernel
from bayou.model import Model
from bayou.priors import LKJ, HalfNormal, HuangWand, InverseWishart, Normal, StudentT, Uniform
from gaussian_models import table
from oracle import Point

PRIORS = {"beta": Normal(0.2, 0.6), "sd": HalfNormal(0.6), "cor": LKJ(2.0)}
SCALE = Uniform(0.3, 1.2)

FAMILIES = {
    "gaussian": Gaussian(),
    "gaussian log": Gaussian(link="log"),
    "bernoulli": Bernoulli(),
    "binomial": Binomial(),
    "probit": Binomial(link="probit"),
    "cloglog": Binomial(link="cloglog"),
    "poisson": Poisson(),
    "negative binomial": NegativeBinomial(),
    "gamma": Gamma(),
}

TRANSLATIONS, COVARIANCES, WHITENED, LAPLACE, WALK, FIXED, DISPERSION, LINEAGES, CARRIED = range(9)
MOVES = {
    "translations": TRANSLATIONS,
    "covariances": COVARIANCES,
    "whitened": WHITENED,
    "laplace": LAPLACE,
    "walk": WALK,
    "fixed": FIXED,
    "dispersion": DISPERSION,
    "carried": CARRIED,
}


@kernel
def prepare(target, state):
    if states.is_gaussian(target.rows.code):
        states.set_weights(target, state)
    ok = states.set_covariances(target, state)
    states.set_eta(target, state)
    return ok


@kernel
def make_moves(target, state, which, times, squares, rng):
    """One kind of move, several times, from a prepared state."""
    for _ in range(times):
        if which == TRANSLATIONS:
            scan.move_translations(target, state, rng)
        elif which == COVARIANCES:
            if not scan.move_covariances(target, state, rng):
                return False
        elif which == WHITENED:
            move_whitened(target, state, False, rng)
        elif which == LAPLACE or which == WALK:
            scan.move_groups(target, state, which == LAPLACE, False, 0.0, rng)
        elif which == FIXED:
            move_fixed(target, state, 0.0, rng)
        elif which == LINEAGES:
            move_lineages(target, state, rng)
        elif which == CARRIED:
            move_carried(target, state, False, rng)
        else:
            scan.move_dispersion(target, state, False, squares, rng)
    return True


class Bench:
    """A model laid out for the kernels, whose response and unknowns can be replaced."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.order, self.target = glmm_target(model)
        self.state = new_state(model, self.target, 0.5, 1.0)
        self.state.tune[:] = -0.3
        self.approximate(np.random.default_rng(9))
        # where each row of the data stands
        rows = glmm_target(oracle.clone(model, np.arange(model.design.n, dtype=float)))[1].rows
        self.place = rows.y.astype(int)

    def approximate(self, rng: np.random.Generator) -> None:
        """Any approximation must leave the posterior as it is: one that is wrong in every number."""
        carrier = self.state.carrier
        for f in range(len(carrier.first) - 1):
            carrier.spread[f][...] = 0.25 * np.tril(0.3 * rng.normal(size=carrier.spread[f].shape), -1)
            carrier.spread[f] += np.diag(rng.uniform(0.1, 0.3, len(carrier.spread[f])))
        carrier.centre[:] = rng.uniform(0.0, 0.3, len(carrier.centre))
        for r in range(len(self.target.blocks.size)):
            self.state.L[r] = np.eye(len(self.state.L[r]))[: len(self.state.L[r])] * 0.5
        draws = Draws(self.state.beta[None], np.empty((1, 0)), self.state.L[None], np.empty((1, 0)))
        carrier.centre[:] += coordinates(self.target, carrier.first, draws)[0]
        carrier.anchor[:] = rng.normal(0.0, 0.3, len(carrier.anchor))
        carrier.angle[:] = 0.0
        carrier.ready[:] = np.diff(carrier.first) > 0 if len(carrier.first) > 1 else 0

    def respond(self, y: np.ndarray) -> None:
        self.target.rows.y[:] = y[self.place]
        self.model = oracle.clone(self.model, y)

    def put(self, point: Point) -> None:
        state = self.state
        if len(point.beta):
            state.beta[:] = np.linalg.solve(self.model.working.to_printed, point.beta)
        if self.order:
            state.b[:] = np.concatenate([point.b[g].ravel() for g in self.order])
        state.L[:] = 0.0
        for r, Sigma in enumerate(point.Sigma):
            state.L[r, : len(Sigma), : len(Sigma)] = np.linalg.cholesky(Sigma)
        if len(state.dispersion):
            state.dispersion[:] = point.dispersion
        assert prepare(self.target, state)

    def point(self) -> Point:
        state, at, b = self.state, 0, {}
        for f, g in enumerate(self.order):
            J, p = int(self.target.rows.levels[f]), int(self.target.rows.sizes[f])
            b[g] = state.b[at : at + J * p].reshape(J, p).copy()
            at += J * p
        Sigma = [oracle.block_factor(self.target.blocks, r, state.L) for r in range(len(self.target.blocks.size))]
        dispersion = state.dispersion.copy() if len(state.dispersion) else np.ones(1)
        return Point(self.model.working.to_printed @ state.beta, [b[g] for g in sorted(b)], Sigma, dispersion)

    def move(self, which: int, times: int, rng: np.random.Generator) -> None:
        squares = np.zeros(max(len(self.state.dispersion), 1))
        assert make_moves(self.target, self.state, which, times, squares, rng)

    def scan(self, laplace: bool, times: int, rng: np.random.Generator) -> None:
        B, p = self.target.blocks.A.shape
        out = np.empty((1, len(self.state.beta))), np.empty((1, 0)), np.zeros((1, B, p, p))
        dispersion = np.empty((1, len(self.state.dispersion)))
        assert (
            scan.run_scans(self.target, self.state, laplace, not laplace, False, times, 0.0, *out, dispersion, rng) == 1
        )


def build(formula, family, priors=None, **settings):
    chosen = FAMILIES[family]
    data = table()
    data["k"] = np.arange(30) % 2 if family == "bernoulli" else np.arange(30) % 4 + (family == "gamma")
    data["size"] = np.arange(30) % 5 + 3
    data["o"] = np.arange(30) // 2  # pairs of rows, some of them of two levels of g
    data["o"][data["o"] % 5 == 2] = 90  # … so that o would not lie within g
    data["o"] = np.array([f"{g}{o}" for g, o in zip(data["g"], data["o"], strict=True)])
    response = "proportion(k, size)" if chosen.name == "binomial" else "k"
    wanted = dict(PRIORS if priors is None else priors)
    if chosen.dispersion is not None:
        wanted["dispersion"] = SCALE
    return Model(f"{response} ~ {formula}", data, chosen, wanted, **settings)


def functions(model, point):
    out = [*point.beta, *(point.beta**2)]
    for values in point.b:
        out += [values[0, 0], values[0, -1] ** 2, values[-1, 0] * values[0, 0], float((values**2).mean())]
        if len(point.beta):
            out.append(point.beta[0] * values[0, 0])
    for Sigma in point.Sigma:
        sd = np.sqrt(np.diag(Sigma))
        out += [*np.log(sd), *(np.log(sd) ** 2)]
        if len(sd) > 1:
            out += [Sigma[1, 0] / sd[0] / sd[1], (Sigma[1, 0] / sd[0] / sd[1]) ** 2]
    if model.family.dispersion is not None:
        out += [*np.log(point.dispersion), *(np.log(point.dispersion) ** 2)]
    # how the parameters go with the data
    eta = oracle.linear_predictor(model, point.beta, point.b)
    out += [np.tanh(model.design.y[0]) * np.tanh(eta[0]), np.log1p(abs(model.design.y[1])) * np.tanh(eta[1])]
    return np.array(out)


def replicates(model, act, n, rng):
    """Z of every function, after against before; also the last bench, whose state has been moved."""
    bench = Bench(model)
    gaps = []
    for _ in range(n):
        point = oracle.draw_from_prior(model, rng)
        bench.respond(oracle.draw_response(model, point, rng))
        bench.put(point)
        act(bench)
        gaps.append(functions(bench.model, bench.point()) - functions(bench.model, point))
    gaps = np.array(gaps)
    assert np.isfinite(gaps).all()
    return oracle.standard_errors_from_zero(gaps), gaps, bench


STRUCTURES = {
    "slopes": ("x + (x | g)", {}),
    "crossed": ("x + v + (1 + x || g) + (1 | h)", {}),
    "nested": ("x + (x | a/g)", {}),
    "slopes of two kinds": ("x + (x | g) + (1 + x || h)", {}),
    "no fixed effects": ("0 + (1 | g)", {}),
    "no groups": ("x + u", {}),
    "offset and weights": ("x + offset(u) + (1 | g)", {"weights": "t"}),
}


def weighted(structure, family, priors=None):
    formula, settings = STRUCTURES[structure]
    if settings and family in ("gaussian", "gaussian log"):
        settings = {"weights": "w"}
    elif settings:
        # a weight other than one is not a model that one can draw responses from
        settings = {}
    return build(formula, family, priors, **settings)


@pytest.mark.parametrize("move", MOVES)
@pytest.mark.parametrize("family", ["poisson", "negative binomial", "gaussian log", "binomial"])
def test_every_move_alone(move, family, rng):
    if move == "dispersion" and FAMILIES[family].dispersion is None:
        pytest.skip("no dispersion")
    z, gaps, bench = replicates(weighted("slopes", family), lambda b: b.move(MOVES[move], 3, rng), 1500, rng)
    assert (np.abs(gaps).max(axis=0) > 0).any(), "nothing moved"
    assert np.abs(z).max() < 4.3, np.round(z, 1)


@pytest.mark.parametrize(
    "move",
    [TRANSLATIONS, WHITENED, LAPLACE, WALK, CARRIED],
    ids=["translations", "whitened", "laplace", "walk", "carried"],
)
@pytest.mark.parametrize("structure", ["crossed", "nested", "slopes of two kinds"])
def test_moves_with_several_factors(structure, move, rng):
    z, _, _ = replicates(weighted(structure, "poisson"), lambda b: b.move(move, 2, rng), 1500, rng)
    assert np.abs(z).max() < 4.3, np.round(z, 1)


NESTED = {
    "two levels": ("x + (1 | a/g)", None),
    "three levels": ("x + (1 | a/g) + (1 | o)", None),
    "one of two coefficients": ("x + (1 + x || a/g)", None),
    "other priors": (
        "x + (1 | a/g)",
        {"beta": Normal(0, 0.6), "sd_a": Uniform(0.1, 1), "Sigma": InverseWishart(6, 1.0)},
    ),
}


@pytest.mark.parametrize("name", NESTED)
def test_lineages(name, rng):
    """Sds of nested factors given sums: the posterior stays, eta too, and every sd and effect moves."""
    right, priors = NESTED[name]
    model = build(right, "poisson", priors)
    kept = []

    def act(bench):
        before = bench.state.eta.copy()
        bench.move(LINEAGES, 2, rng)
        states_eta = oracle.linear_predictor(bench.model, *((p := bench.point()).beta, p.b))[bench.place[0]]
        kept.append(np.abs(states_eta - before).max())

    z, gaps, _ = replicates(model, act, 1500, rng)
    assert max(kept) < 1e-9
    sds = [k for k in range(gaps.shape[1]) if np.abs(gaps[:, k]).max() > 0]
    assert len(sds) > 4 * len(model.design.groupings)
    assert np.abs(z).max() < 4.3, np.round(z, 1)


PRIOR_KINDS = {
    "inverse Wishart": {"beta": Normal(0, 0.6), "Sigma": InverseWishart(6, 1.0)},
    "Huang & Wand": {"beta": Normal(0, 0.6), "Sigma": HuangWand(4, 0.5)},
    "any prior on beta": {"beta": Normal(0, 0.6), "beta[x]": StudentT(5, 0, 0.5), "sd": HalfNormal(0.6), "cor": LKJ(2)},
    "bounded": {"beta": Uniform(-1, 1), "sd": Uniform(0.1, 1), "cor": LKJ(2)},
}


@pytest.mark.parametrize("laplace", [True, False], ids=["laplace", "random walk"])
@pytest.mark.parametrize("kind", PRIOR_KINDS)
def test_priors_of_every_kind(kind, laplace, rng):
    model = build("x + (x | g)", "poisson", PRIOR_KINDS[kind])
    z, _, _ = replicates(model, lambda b: b.scan(laplace, 3, rng), 1500, rng)
    assert np.abs(z).max() < 4.3, np.round(z, 1)


@pytest.mark.slow
@pytest.mark.parametrize("laplace", [True, False], ids=["laplace", "random walk"])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("structure", STRUCTURES)
def test_joint_distribution(structure, family, laplace, rng):
    z, _, _ = replicates(weighted(structure, family), lambda b: b.scan(laplace, 5, rng), 4000, rng)
    assert np.abs(z).max() < 4.5, np.round(z, 1)


@pytest.mark.parametrize("laplace", [True, False], ids=["laplace", "random walk"])
@pytest.mark.parametrize("family", FAMILIES)
def test_eta_is_kept_up_to_date(family, laplace, rng):
    """After many scans eta = X beta + Z b + offset, and the kept log likelihood is that of the rows."""
    model = weighted("offset and weights" if "gaussian" in family else "crossed", family)
    bench = Bench(model)
    bench.put(oracle.draw_from_prior(model, rng))
    for times in (1, 62, 70):
        bench.scan(laplace, times, rng)
        eta = oracle.linear_predictor(model, *((p := bench.point()).beta, p.b))
        np.testing.assert_allclose(bench.state.eta, eta[bench.place[0]], rtol=1e-9, atol=1e-9)


def test_kept_log_likelihoods_are_those_of_the_rows(rng):
    """The random walk keeps each group's log likelihood from scan to scan: it must follow eta."""
    model = weighted("slopes", "poisson")
    bench = Bench(model)
    bench.put(oracle.draw_from_prior(model, rng))
    for move in (WALK, WALK, COVARIANCES, WALK, TRANSLATIONS, WHITENED, WALK, WALK):
        bench.move(move, 1, rng)
        kept = bench.state.likelihood
        eta = bench.state.eta
        rows = bench.target.rows
        terms = rows.y[0] * eta - np.exp(eta)
        for j in range(6):
            mine = slice(rows.start[j], rows.start[j + 1])
            if np.isfinite(kept[j]):
                np.testing.assert_allclose(kept[j], terms[mine].sum(), rtol=1e-9)
        if np.isfinite(bench.state.total[0]):
            np.testing.assert_allclose(bench.state.total[0], terms.sum(), rtol=1e-9)


# ---- conditionals known by quadrature ---------------------------------------------------------


def moments(log_density, low, high):
    top = max(log_density(t) for t in np.linspace(low, high, 2001))
    parts = [quad(lambda t, k=k: t**k * np.exp(log_density(t) - top), low, high, limit=400)[0] for k in range(3)]
    mean = parts[1] / parts[0]
    return mean, np.sqrt(parts[2] / parts[0] - mean**2)


def compare(draws, mean, sd, what):
    """Means by batches, so that the draws may depend on each other."""
    batches = draws.reshape(50, -1).mean(axis=1)
    error = batches.std(ddof=1) / np.sqrt(50)
    assert abs(draws.mean() - mean) < 4 * error, f"{what}: {draws.mean()} against {mean} ± {error}"
    assert abs(draws.std() / sd - 1) < 0.08, f"{what}: sd {draws.std()} against {sd}"


@pytest.mark.parametrize("move", ["laplace", "walk"])
@pytest.mark.parametrize("family", FAMILIES)
def test_group_conditionals(family, move, rng):
    """b_0 given all else, by long runs of one move, against quadrature of the joint density."""
    model = build("x + (1 | g)", family)
    bench = Bench(model)
    point = oracle.draw_from_prior(model, rng)
    y = oracle.draw_response(model, point, rng)
    bench.respond(y)
    bench.put(point)
    draws = np.empty(4_000)
    for i in range(len(draws)):
        bench.move(MOVES[move], 2 if move == "laplace" else 6, rng)
        draws[i] = bench.state.b[0]

    def log_density(value):
        b = [point.b[0].copy()]
        b[0][0] = value
        return oracle.log_joint(bench.model, Point(point.beta, b, point.Sigma, point.dispersion))

    sd = float(np.sqrt(point.Sigma[0][0, 0]))
    mean, spread = moments(log_density, -8 * sd, 8 * sd)
    compare(draws, mean, spread, f"{family}, {move}")


@pytest.mark.parametrize("family", FAMILIES)
def test_fixed_and_dispersion_conditionals(family, rng):
    model = build("0 + x + (1 | g)", family)
    bench = Bench(model)
    point = oracle.draw_from_prior(model, rng)
    bench.respond(oracle.draw_response(model, point, rng))
    bench.put(point)
    draws = np.empty(4_000)
    for i in range(len(draws)):
        bench.move(FIXED, 2, rng)
        draws[i] = bench.state.beta[0]

    def of_beta(value):
        return oracle.log_joint(bench.model, Point(np.array([value]), point.b, point.Sigma, point.dispersion))

    compare(draws, *moments(of_beta, -4.0, 4.4), family)
    if model.family.dispersion is None:
        return
    bench.put(point)
    for i in range(len(draws)):
        bench.move(DISPERSION, 4, rng)
        draws[i] = bench.state.dispersion[0]
    s = draws if model.family.dispersion == "sigma" else 1 / np.sqrt(draws)

    def of_scale(value):
        d = value if model.family.dispersion == "sigma" else value**-2
        return oracle.log_joint(bench.model, Point(point.beta, point.b, point.Sigma, np.array([d])))

    compare(s, *moments(of_scale, 0.3 + 1e-9, 1.2 - 1e-9), f"{family}: dispersion")


# ---- the engine -------------------------------------------------------------------------------


@pytest.mark.parametrize("structure", STRUCTURES)
def test_scratch_has_room_for_every_factor(structure):
    """Kernels do not check bounds: a factor with several blocks is wider than its widest block."""
    model = weighted(structure, "poisson")
    _, target = glmm_target(model)
    state = new_state(model, target, 0.5, 1.0)
    widest = max([1, *target.rows.sizes])
    P = len(target.border.linear)
    assert min(state.Q.shape[1], state.Sigma.shape[1], state.scratch.H.shape[0]) >= widest
    assert state.scratch.vectors.shape[1] >= widest
    assert len(state.scratch.step) >= LANES * widest
    assert min(state.vectors.shape[1], state.work.shape[1]) >= max(widest, P)


@pytest.mark.parametrize(
    "engine",
    [
        Metropolis(draws=400, warmup=300, chains=2),
        Metropolis(draws=400, warmup=300, chains=2, proposal="random_walk"),
        Metropolis(draws=400, warmup=600, chains=2, proposal="random_walk", scale="adapted"),
    ],
    ids=["laplace", "walk", "adapted"],
)
def test_acceptance_by_group(engine):
    fit = bayou.fit(weighted("crossed", "poisson"), engine=engine, seed=3)
    statistics = fit.result.group_statistics
    assert set(statistics) == {"acceptance_g", "acceptance_h"}
    assert statistics["acceptance_g"].shape == (2, 6)
    assert statistics["acceptance_h"].shape == (2, 4)
    for rates in statistics.values():
        assert ((rates > 0) & (rates <= 1)).all()
        if engine.proposal == "laplace":
            assert rates.min() > 0.5
        elif engine.scale == "adapted":
            assert abs(rates.mean() - 0.28) < 0.12


def test_smaller_steps_are_accepted_more_often():
    model = weighted("slopes", "poisson")
    rates = []
    for scale in (0.02, 0.5, 10.0):
        engine = Metropolis(proposal="random_walk", scale=scale, draws=500, warmup=200, chains=1)
        rates.append(bayou.fit(model, engine=engine, seed=1).result.group_statistics["acceptance_g"].mean())
    assert rates[0] > rates[1] > rates[2]


@pytest.mark.parametrize("key", ["phi", "dispersion"])
def test_dispersion_of_bounded_support(key):
    """The chain gets inside wherever the prior lies."""
    data = {**table(), "k": np.arange(30) % 7}
    prior = Uniform(20.0, 40.0) if key == "phi" else Uniform(3.0, 4.0)
    fit = bayou.fit(
        "k ~ x + (1 | g)", data, family="negative_binomial", priors={key: prior}, seed=1,
        engine=Metropolis(draws=100, warmup=300, chains=2),
    )  # fmt: skip
    phi = fit.result.draws["phi"]
    value = phi if key == "phi" else 1 / np.sqrt(phi)
    assert value.min() >= prior.lower
    assert value.max() <= prior.upper
    assert np.ptp(value) > 0


def test_settings_are_checked():
    with pytest.raises(Unsupported, match="'sideways'.*'laplace' or 'random_walk'"):
        Metropolis(proposal="sideways")
    for scale in (0, -1.0, "wide", True, float("nan"), float("inf")):
        with pytest.raises(DataError, match="positive number or 'adapted'"):
            Metropolis(scale=scale)


def test_method_is_told():
    model = weighted("slopes", "poisson")
    short = {"draws": 10, "warmup": 10, "chains": 1}
    walk = bayou.fit(model, engine=Metropolis(proposal="random_walk", **short), seed=1).result
    assert walk.info["method"] == "random walk by group, scale 0.5"
    assert "random_walk" in walk.engine
    assert "Laplace" in bayou.fit(model, engine=Metropolis(**short), seed=1).result.info["method"]
