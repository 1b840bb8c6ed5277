"""Improper posteriors are refused with the rule; proper priors never, but they warn."""

import time

import numpy as np
import pytest

import bayou.priors as bp
from bayou.binding import bind
from bayou.binding.recession import recession
from bayou.errors import ImproperPosterior, PriorError
from standin_designs import design, grouping

RNG = np.random.default_rng(13)
FLAT = {"beta": bp.Flat()}
PROPER = {"beta": bp.Normal(0, 10)}


def random_intercepts(levels, rows=4, fixed=None, **extra):
    codes = np.repeat(np.arange(levels), rows)
    y = RNG.standard_normal(levels)[codes] + RNG.standard_normal(len(codes))
    columns = {"Intercept": 1.0, **(fixed(codes) if fixed else {})}
    return design(y, columns, [grouping("g", codes, {"Intercept": 1.0})], **extra)


@pytest.mark.parametrize(
    ("levels", "priors", "proper"),
    [
        (2, {"sd": bp.FlatSD()}, True),
        (1, {"sd": bp.FlatSD()}, False),
        (3, {"sd": bp.FlatSD(), **FLAT}, True),
        (2, {"sd": bp.FlatSD(), **FLAT}, False),
        (3, {"sd": bp.Flat(), **FLAT}, True),
        (3, {"variance": bp.Flat()}, True),
        (2, {"variance": bp.Flat()}, False),
        (4, {"variance_g": bp.Flat(), **FLAT}, True),
        (3, {"variance_g": bp.Flat(), **FLAT}, False),
        (1, {"sd": bp.Uniform(0, 100)}, True),
        (1, {"sd": bp.HalfCauchy(5)}, True),
    ],
)
def test_rule_of_informative_levels(levels, priors, proper):
    built = random_intercepts(levels)
    if proper:
        bind(priors, built)
        return
    with pytest.raises(ImproperPosterior, match="informative levels of 'g'.*HalfT"):
        bind(priors, built)


def test_rule_counts_group_level_effects_with_flat_priors():
    def two(codes):
        return {"a": codes % 2, "b": codes**2, "x": RNG.standard_normal(len(codes))}

    bind({"sd": bp.FlatSD(), **FLAT}, random_intercepts(5, fixed=two))
    with pytest.raises(ImproperPosterior, match=r"4 of 4 levels.*3 flat effects.*4 - 3 = 1"):
        bind({"sd": bp.FlatSD(), **FLAT}, random_intercepts(4, fixed=two))
    bind({"sd": bp.FlatSD(), **PROPER}, random_intercepts(4, fixed=two))
    # Only the slope's own flat columns count: the default of the intercept stays proper.
    bind({"sd": bp.FlatSD(), "beta[x]": bp.Flat()}, random_intercepts(2, fixed=two))
    with pytest.raises(ImproperPosterior, match="1 flat effects"):
        bind({"sd": bp.FlatSD(), "beta[a]": bp.Flat()}, random_intercepts(2, fixed=two))


def test_rule_for_outcomes_of_binomials_and_counts():
    codes = np.repeat(np.arange(5), 3)
    one = [grouping("g", codes, {"Intercept": 1.0})]
    y = np.array([0, 1, 0, 0, 0, 0, 1, 1, 1, 0, 1, 1, 0, 0, 0], dtype=float)
    built = design(y, {"Intercept": 1.0}, one, family="bernoulli")
    bind({"sd": bp.FlatSD()}, built)  # levels 0 and 3 have both outcomes
    with pytest.raises(ImproperPosterior, match="2 of 5 levels inform"):
        bind({"sd": bp.FlatSD(), **FLAT}, built)
    counts = np.where(codes < 2, 3.0, 0.0)
    bind({"sd": bp.FlatSD()}, design(counts, {"Intercept": 1.0}, one, family="poisson"))
    with pytest.raises(ImproperPosterior, match="1 of 5 levels inform"):
        bind(
            {"sd": bp.FlatSD()},
            design(np.where(codes < 1, 3.0, 0.0), {"Intercept": 1.0}, one, family="poisson"),
        )
    # Rows without trials or weight do not count.
    trials = np.where(codes == 3, 0.0, 1.0)
    with pytest.raises(ImproperPosterior, match="1 of 5 levels inform"):
        bind({"sd": bp.FlatSD()}, design(y * trials, {"Intercept": 1.0}, one, family="binomial", trials=trials))


def test_rule_for_slopes_needs_full_rank_within_the_level():
    codes = np.repeat(np.arange(4), 3)
    x = np.where(codes < 2, np.arange(12) % 3, codes).astype(float)  # constant within levels 2 and 3
    y = RNG.standard_normal(12)

    def built(blocks, **fixed):
        return design(y, {"Intercept": 1.0, **fixed}, [grouping("g", codes, {"Intercept": 1.0, "x": x}, blocks)])

    bind({"sd": bp.FlatSD()}, built(((0,), (1,))))
    with pytest.raises(ImproperPosterior, match=r"sd_g\[x\].*2 of 4 levels.*1 flat effects"):
        bind({"sd": bp.FlatSD(), **FLAT}, built(((0,), (1,)), x=x))
    # With a proper intercept sd every level with x ≠ 0 informs the slope.
    bind({"sd_g[x]": bp.FlatSD(), **FLAT}, built(((0, 1),), x=x))


def test_poisson_slopes_can_drift_within_a_level():
    """A level whose counts are 0 then positive has full rank, but its likelihood does not fall in slope."""
    codes = np.repeat(np.arange(3), 2)
    x = np.tile([0.0, 1.0], 3)
    drifting = np.tile([0.0, 3.0], 3)
    bars = [grouping("g", codes, {"Intercept": 1.0, "x": x})]
    with pytest.raises(ImproperPosterior, match=r"sd_g\[x\].*0 of 3 levels"):
        bind({"sd": bp.FlatSD()}, design(drifting, {"Intercept": 1.0}, bars, family="poisson"))
    bind({"sd": bp.FlatSD()}, design(drifting + 1, {"Intercept": 1.0}, bars, family="poisson"))


def test_several_flat_sds_of_the_same_levels():
    """Two factors with the same levels: each passes alone, together only their sum is learnt."""
    codes = np.repeat(np.arange(3), 4)
    y = RNG.standard_normal(12)
    bars = [grouping("a", codes, {"Intercept": 1.0}), grouping("b", codes, {"Intercept": 1.0})]
    priors = {"sd": bp.FlatSD(), "beta": bp.Flat()}
    with pytest.raises(ImproperPosterior, match="flat priors together"):
        bind(priors, design(y, {"Intercept": 1.0}, bars))
    bind({**priors, "sd_b": bp.HalfT(2, 1)}, design(y, {"Intercept": 1.0}, bars))
    crossed = [bars[0], grouping("b", np.tile(np.arange(4), 3), {"Intercept": 1.0})]
    bind(priors, design(y, {"Intercept": 1.0}, crossed))


def test_jeffreys_of_the_residual_variance():
    built = random_intercepts(4, rows=2)
    bind({"sigma": bp.Jeffreys()}, built)
    bind({"sigma2": bp.Jeffreys()}, built)
    with pytest.raises(ImproperPosterior, match=r"n − rank\[X Z\] ≥ 1, but it is 4 − 4 = 0"):
        bind({"sigma": bp.Jeffreys()}, random_intercepts(4, rows=1))
    codes = np.repeat(np.arange(4), 2)
    levels = np.array(["low", "high"], dtype=object)
    by = {"sigma_by": "h", "sigma_levels": levels}
    good = random_intercepts(4, rows=2, sigma_codes=(codes >= 2).astype(int), **by)
    bind({"sigma": bp.Jeffreys()}, good)
    bad = random_intercepts(4, rows=2, sigma_codes=(np.arange(8) == 7).astype(int), **by)
    with pytest.raises(ImproperPosterior, match="in level 'high' of h"):
        bind({"sigma": bp.Jeffreys()}, bad)
    bind(None, bad)


def test_flat_residual_sd_needs_rows():
    y = np.array([1.0, 2.0, 4.0])
    bind({"sigma": bp.FlatSD(), **FLAT}, design(y, {"Intercept": 1.0}))
    with pytest.raises(ImproperPosterior, match="3 − 2 = 1"):
        bind({"sigma": bp.FlatSD(), **FLAT}, design(y, {"Intercept": 1.0, "x": [0, 1, 5]}))
    with pytest.raises(ImproperPosterior, match="a flat variance for sigma"):
        bind({"sigma2": bp.Flat(), **FLAT}, design(y, {"Intercept": 1.0}))
    counts = design(np.array([0.0, 0, 3, 1]), {"Intercept": 1.0}, family="negative_binomial")
    bind({"dispersion": bp.FlatSD()}, counts)
    with pytest.raises(ImproperPosterior, match="Poisson limit"):
        bind({"dispersion": bp.Jeffreys()}, counts)


def test_rank_deficient_fixed_effects():
    n = 20
    x = RNG.standard_normal(n)
    columns = {"Intercept": 1.0, "x": x, "twice": 2 * x + 3, "still": 5.0}
    built = design(RNG.standard_normal(n), columns)
    with pytest.raises(ImproperPosterior, match=r"twice, still can be written.*still does not vary"):
        bind(FLAT, built)
    for priors in (None, PROPER):
        (note,) = bind(priors, built).notes
        assert "twice, still" in note
    # One proper prior on the aliased columns is enough.
    bind({**FLAT, "beta[twice]": bp.Normal(0, 1), "beta[still]": bp.StudentT(3, 0, 1)}, built)
    scaled = design(RNG.standard_normal(n), {"Intercept": 1.0, "x": 1e-9 * x, "z": 1e9 * RNG.standard_normal(n)})
    assert bind(FLAT, scaled).notes == ()
    near = design(RNG.standard_normal(n), {"Intercept": 1.0, "x": x, "y": x + 3e-9 * RNG.standard_normal(n)})
    assert "collinear" in bind(PROPER, near).notes[0]


def test_fewer_rows_than_coefficients():
    built = design([1.0, 2.0], {"Intercept": 1.0, "x": [0, 1], "z": [1, 3]})
    with pytest.raises(ImproperPosterior, match="There are 2 usable rows for 3 coefficients"):
        bind(FLAT, built)
    assert "rank-deficient" in bind(None, built).notes[0]
    single = design([1.0], {"Intercept": 1.0})
    bind(None, single)
    with pytest.raises(ImproperPosterior):
        bind({"sigma": bp.FlatSD(), **FLAT}, single)


def test_separation():
    x = np.array([-3.0, -2, -1, 1, 2, 3])
    columns = {"Intercept": 1.0, "x": x}
    built = design(x > 0, columns, family="bernoulli")
    with pytest.raises(ImproperPosterior, match="combination of x separates"):
        bind(FLAT, built)
    for priors in (None, PROPER):
        assert "Separation: the combination of x" in bind(priors, built).notes[0]
    quasi = design(np.array([0.0, 0, 0, 1, 1, 1]), {"Intercept": 1.0, "x": [-1, 0, 0, 0, 1, 2]}, family="bernoulli")
    with pytest.raises(ImproperPosterior, match="separates"):
        bind(FLAT, quasi)
    overlap = design(np.array([0.0, 1, 0, 1, 0, 1]), columns, family="bernoulli")
    assert bind(FLAT, overlap).notes == ()
    successes = design([0.0, 0, 1, 5, 5, 5], columns, family="binomial", trials=np.full(6, 5.0))
    with pytest.raises(ImproperPosterior, match="separates"):
        bind(FLAT, successes)
    with pytest.raises(ImproperPosterior, match="all outcomes are successes.*Give Intercept"):
        bind(FLAT, design(np.ones(5), {"Intercept": 1.0}, family="bernoulli"))


def test_separation_in_many_rows_is_quick_and_right():
    n = 60_000
    x = RNG.standard_normal((n, 3))
    y = (x @ [1.0, 2, -1] + RNG.logistic(size=n) > 0).astype(float)
    columns = {"Intercept": 1.0, **{f"x{k}": x[:, k] for k in range(3)}}
    start = time.perf_counter()
    assert recession(design(y, columns).X, y == 0, y == 1) is None
    separated = (x @ [1.0, 2, -1] > 0.3).astype(float)
    d = recession(design(y, columns).X, separated == 0, separated == 1)
    assert time.perf_counter() - start < 10
    signed = np.where(separated == 1, 1, -1) * (design(y, columns).X @ d)
    assert signed.min() > -1e-4 and signed.max() > 0.1


def test_counts_that_are_all_zero():
    built = design(np.zeros(10), {"Intercept": 1.0}, family="poisson")
    with pytest.raises(ImproperPosterior, match="all counts are 0"):
        bind(FLAT, built)
    assert "All counts are 0" in bind(None, built).notes[0]
    treated = design([0.0, 0, 0, 2, 3, 4], {"Intercept": 1.0, "t": [1, 1, 1, 0, 0, 0]}, family="poisson")
    with pytest.raises(ImproperPosterior, match="every count that the combination of t moves is 0"):
        bind(FLAT, treated)
    bind({"beta[Intercept]": bp.Flat()}, treated)
    bind(FLAT, design([0.0, 1, 0, 2, 3, 4], {"Intercept": 1.0, "t": [1, 1, 1, 0, 0, 0]}, family="poisson"))
    with pytest.raises(ImproperPosterior, match="can send the means to 0"):
        bind(FLAT, design([1.0, 2, 3], {"Intercept": 1.0}, link="log"))
    bind(FLAT, design([1.0, 2, 3], {"Intercept": 1.0}, family="gamma"))


def test_constant_response():
    built = design(np.full(8, 3.0), {"Intercept": 1.0})
    with pytest.raises(ImproperPosterior, match="response y is constant"):
        bind({"sigma": bp.FlatSD()}, built)
    assert "constant" in bind(None, built).notes[0]


def test_fragile_but_proper_models_warn():
    one = random_intercepts(1)
    assert any("one level" in note for note in bind(None, one).notes)
    confounded = random_intercepts(6, rows=1)
    assert any("confounded" in note for note in bind(None, confounded).notes)
    with pytest.raises(PriorError, match="confounded"):
        bind({"sd": bp.FlatSD()}, confounded)
    known = random_intercepts(6, rows=1, standard_errors=np.ones(6))
    assert bind(None, known).notes == ()
    bind({"sd": bp.FlatSD(), **FLAT}, known)
    codes = np.arange(8)
    ones = design(codes % 2, {"Intercept": 1.0}, [grouping("g", codes, {"Intercept": 1.0})], family="bernoulli")
    assert any("one 0/1 outcome" in note for note in bind(None, ones).notes)
    rows = design(codes % 3, {"Intercept": 1.0}, [grouping("g", codes, {"Intercept": 1.0})], family="poisson")
    assert bind(None, rows).notes == ()
    both = random_intercepts(3, fixed=lambda codes: {"g[b]": codes == 1, "g[c]": codes == 2})
    assert any("only the sum of both" in note for note in bind(None, both).notes)
    with pytest.raises(ImproperPosterior):
        bind({"sd": bp.FlatSD(), **FLAT}, both)
    vague = bind({"variance_g": bp.InverseGamma(0.001, 0.001)}, random_intercepts(4))
    assert any("InverseGamma(0.001, 0.001)" in note for note in vague.notes)
    many = design(
        RNG.standard_normal(6),
        {"Intercept": 1.0},
        [grouping("g", np.repeat(np.arange(3), 2), {"Intercept": 1.0, "x": np.arange(6), "z": np.arange(6) ** 2})],
    )
    assert any("9 group coefficients for 6 rows" in note for note in bind(None, many).notes)


def test_a_large_clean_model_is_checked_in_no_time():
    n, levels = 200_000, 20_000
    codes = RNG.integers(0, levels, n)
    x = RNG.standard_normal(n)
    built = design(
        RNG.standard_normal(n), {"Intercept": 1.0, "x": x}, [grouping("g", codes, {"Intercept": 1.0, "x": x})]
    )
    start = time.perf_counter()
    assert bind({"sd": bp.FlatSD(), "sigma": bp.Jeffreys(), **FLAT}, built).notes == ()
    assert time.perf_counter() - start < 3
