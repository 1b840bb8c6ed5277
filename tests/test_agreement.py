"""bayou.agreement: engines that agree, engines that do not and who is named, refusals, the picture, the shell."""

import re
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import bayou
from bayou.cli import app
from bayou.diagnose.compared import _of_chains as of_chains
from bayou.diagnose.compared import bar_of, compared, sample_of
from bayou.engines import INLA, Gibbs, Metropolis
from bayou.errors import DataError, ResourceError, Unsupported
from bayou.model import Model
from bayou.priors import HalfNormal, Normal

FORMULA = "y ~ x + (1 | g)"
PRIORS = {"beta": Normal(0, 2), "sd": HalfNormal(1), "sigma": HalfNormal(2)}


def table():
    rng = np.random.default_rng(8)
    g = np.repeat(np.arange(10), 5)
    x = rng.normal(size=50)
    eta = 0.5 + 0.4 * x + 0.6 * rng.normal(size=10)[g]
    return {"x": x, "g": [f"g{k}" for k in g], "y": eta + 0.7 * rng.normal(size=50), "k": rng.poisson(np.exp(eta))}


@dataclass(frozen=True, kw_only=True)
class Wrong(Gibbs):
    """Gibbs, and then what is wrong with its draws."""

    name: ClassVar[str] = "wrong"
    shift: float = 0.0
    factor: float = 1.0
    bimodal: bool = False
    off_by_one: bool = False

    def run(self, model, rng):
        result = super().run(model, rng)
        beta = result.draws["beta"]
        x = beta[..., 1]
        mean, sd = x.mean(), x.std()
        if self.bimodal:  # two points with the same mean and sd
            x = mean + sd * np.sign(x - np.median(x))
        beta[..., 1] = mean + self.factor * (x - mean) + self.shift * sd
        if self.off_by_one:
            result.draws["b_g"] = np.roll(result.draws["b_g"], 1, axis=2)
        return result


@pytest.fixture(scope="module")
def model():
    return Model(FORMULA, table(), priors=PRIORS)


@pytest.fixture(scope="module")
def agreed(model):
    return bayou.agreement(model, ["gibbs", "metropolis", "inla", "reml", "quadrature", "pql"], seed=2)


# ---- engines that agree ----------------------------------------------------------------------


def test_right_engines_agree(agreed):
    assert agreed.ok and bool(agreed) and agreed.reference == "gibbs"
    assert agreed.sentences[0].startswith("gibbs (") and "agrees with metropolis and inla" in agreed.sentences[0]
    for sentence, name in zip(agreed.sentences[1:3], ("metropolis", "inla"), strict=True):
        assert re.match(rf"{name} \(.* s\) agrees with gibbs in all 4 parameters: the largest difference is", sentence)
    assert str(agreed).startswith("Agreement: ok. y ~ x + (1 | g), the same priors for all")
    assert all(sentence in str(agreed) for sentence in agreed.sentences)


def test_the_table_holds_what_it_says(agreed):
    frame = agreed.table
    assert frame.index.names == ["parameter", "engine"] and not frame.index.duplicated().any()
    rows = ["beta[Intercept]", "beta[x]", "sd_g[Intercept]", "sigma"]
    assert list(dict.fromkeys(frame.index.get_level_values("parameter"))) == rows
    gibbs, other = (agreed.results[name] for name in ("gibbs", "metropolis"))
    for name in rows:
        a, b = other.values(other.rows[name]), gibbs.values(gibbs.rows[name])
        row = frame.loc[name, "metropolis"]
        assert row["difference"] == pytest.approx((a.mean() - b.mean()) / b.std())
        assert row["ratio"] == pytest.approx(a.std() / b.std()) and row["kind"] == "draws" and row["agrees"]
        # the distance of two equally large samples is the mean distance of their ordered values
        ordered = np.abs(np.sort(a.ravel()) - np.sort(b.ravel())).mean() / b.std()
        assert row["distance"] == pytest.approx(ordered, abs=0.003)
        assert abs(row["difference"]) < 4 * row["error"] and 0.01 < row["error"] < 0.05
        assert frame.loc[name, "inla"]["kind"] == "densities"
        assert frame.loc[name, "inla"]["mean"] == agreed.results["inla"].approximation.marginals[name].mean
        assert frame.loc[name, "gibbs"]["difference"] == 0.0 and frame.loc[name, "gibbs"]["ratio"] == 1.0


def test_likelihood_engines_get_the_priors_and_decide_nothing(agreed):
    for name in ("reml", "quadrature"):
        assert agreed.results[name].estimates.priors_used
        row = agreed.table.loc["sd_g[Intercept]", name]
        assert row["kind"] == "estimates" and row["agrees"] is None and np.isnan(row["error"])
        found = agreed.results[name].estimates
        assert row["mean"] == found.estimate[found.rows.index("sd_g[Intercept]")]
        sentence = next(s for s in agreed.sentences if s.startswith(name))
        assert "gives estimates, not a posterior" in sentence and "A maximum is no mean" in sentence


def test_default_priors_are_the_same_for_all():
    clinic = bayou.datasets.load("clinic")
    model = Model("proportion(favorable, patients) ~ treatment + (1 | clinic)", clinic, "binomial")
    found = bayou.agreement(model, ["inla", "laplace"], seed=1)
    assert found.results["laplace"].estimates.priors_used
    assert not model.priors_given  # the caller's model is left alone
    assert found.model.bound.lines == model.bound.lines
    assert not found.ok and "the only posterior" in found.sentences[0]


def test_the_same_seed_gives_the_same_table_and_engines_do_not_share_it(model):
    engines = [Gibbs(draws=200, warmup=100), Gibbs(parameterization="blocked", draws=200, warmup=100)]
    one, two = (bayou.agreement(model, engines, seed=5) for _ in range(2))
    pd.testing.assert_frame_equal(one.table, two.table)
    twins = bayou.agreement(model, [Gibbs(draws=200, warmup=100), Gibbs(draws=200, warmup=101)], seed=5)
    assert not np.array_equal(*(result.draws["sigma"][:, 0] for result in twins.results.values()))


# ---- engines that do not ---------------------------------------------------------------------


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_wrong_engine_is_named_wherever_it_stands(model, place):
    engines = ["gibbs", "metropolis"]
    engines.insert(place, Wrong(shift=0.3))
    found = bayou.agreement(model, engines, seed=3)
    assert not found.ok and found.reference == ("metropolis" if place == 3 else "gibbs")
    said = {name: next(s for s in found.sentences if s.startswith(f"{name} (")) for name in found.results}
    assert re.search(r"differs from gibbs: the mean of beta\[x\] is off by \+0\.\d\d ± 0\.0\d posterior sds\.$", said["wrong"])
    row = found.table.loc["beta[x]", "wrong"]
    assert abs(row["difference"] - 0.3) < 4 * row["error"] and not row["agrees"]
    assert "agrees with" in said["metropolis"] and "wrong" not in said["gibbs"]
    assert found.table["agrees"].sum() == len(found.table) - 1


def test_a_wrong_sd_is_named(model):
    found = bayou.agreement(model, ["gibbs", Wrong(factor=1.2)], seed=3)
    assert re.search(r"the sd of beta\[x\] is 1\.\d\d ± 0\.0\d times as large", found.sentences[1])
    assert "agrees with no other engine" in found.sentences[0] and not found.ok


def test_a_wrong_shape_is_named(model):
    found = bayou.agreement(model, ["gibbs", "inla", Wrong(bimodal=True)], seed=3)
    assert re.search(r"the distribution of beta\[x\] has another shape \(Wasserstein", found.sentences[2])


def test_a_shift_of_groups_is_seen_with_groups(model):
    engines = ["gibbs", Wrong(off_by_one=True)]
    assert bayou.agreement(model, engines, seed=3).ok
    found = bayou.agreement(model, engines, seed=3, groups=True)
    assert not found.ok and "b_g[g" in found.sentences[1] and "more" in found.sentences[1]
    assert bayou.agreement(model, ["gibbs", "inla"], seed=3, groups=True).ok
    assert len(found.table) == 2 * (4 + 10)


def test_a_verdict_that_is_not_ok_is_told(model):
    found = bayou.agreement(model, [Gibbs(), Metropolis(draws=40, warmup=100)], seed=1)
    assert not found.ok and "Its own verdict is NOT OK: Too few effective draws" in found.sentences[1]
    assert re.search(r"a difference of up to .* posterior sds would not be seen", found.sentences[1])


# ---- engines that refuse, and wrong input ----------------------------------------------------


def test_who_refuses_stands_in_a_sentence(agreed):
    assert "pql" in agreed.results or any(s.startswith("pql refused: ") for s in agreed.sentences)
    counts = Model("k ~ x + (1 | g)", table(), "poisson", {"beta": Normal(0, 2), "sd": HalfNormal(1)})
    found = bayou.agreement(counts, ["gibbs", "metropolis", "inla"], seed=1)
    assert found.ok and found.sentences[0].startswith("gibbs refused: Gibbs needs a Gaussian response")
    assert "gibbs" not in found.results and found.reference == "metropolis"
    with pytest.raises(Unsupported, match=r"No engine takes this model\. gibbs refused: .* ml refused"):
        bayou.agreement(counts, ["gibbs", "ml"], seed=1)


def test_estimates_alone_have_nothing_to_be_compared_with(model):
    found = bayou.agreement(model, ["ml", "reml"], seed=1)
    assert not found.ok and "no engine gave a posterior" in found.sentences[0]


def test_settings_go_to_the_engines_that_have_them(model):
    found = bayou.agreement(model, ["gibbs", "inla", "reml"], seed=1, warmup=200, draws=300)
    assert found.results["gibbs"].size == 300 and found.results["gibbs"].info["warmup"] == 200
    assert found.results["inla"].size == 300
    with pytest.raises(Unsupported, match=r"'warmupp' is not a setting of Gibbs\. Did you mean 'warmup'"):
        bayou.agreement(model, ["gibbs", "inla"], warmupp=200)


@pytest.mark.parametrize(
    ("engines", "settings", "error", "said"),
    [
        (["gibbs"], {}, DataError, "two engines or more"),
        ("gibbs", {}, DataError, "two engines or more"),
        (["gibbs", "gibs"], {}, Unsupported, "Did you mean 'gibbs'"),
        (["gibbs", "gibbs"], {}, DataError, r"given Gibbs\(\) twice"),
        (["gibbs", "inla"], {"store": "run"}, DataError, "takes no store="),
        (["gibbs", "inla"], {"seed": -1}, DataError, "seed=-1"),
    ],
)
def test_wrong_input(model, engines, settings, error, said):
    with pytest.raises(error, match=said):
        bayou.agreement(model, engines, **settings)


def test_a_formula_is_no_model():
    with pytest.raises(DataError, match=r"agreement takes a Model, not str"):
        bayou.agreement(FORMULA, ["gibbs", "inla"])


def test_a_machine_that_is_too_small_is_no_refusal(model, monkeypatch):
    def full(self, model, rng):
        raise ResourceError("The draws need 9 TB.")

    monkeypatch.setattr(INLA, "run", full)
    with pytest.raises(ResourceError, match="9 TB"):
        bayou.agreement(model, ["gibbs", "inla"], draws=10)


# ---- chance ----------------------------------------------------------------------------------


def chains(rng, rho=0.0, size=400):
    """Four autocorrelated chains with standard normal margins."""
    noise = rng.normal(size=(4, size))
    out = np.empty_like(noise)
    out[:, 0] = noise[:, 0]
    for t in range(1, size):
        out[:, t] = rho * out[:, t - 1] + np.sqrt(1 - rho**2) * noise[:, t]
    return out


@pytest.mark.parametrize("shape", ["normal", "skewed", "heavy"])
@pytest.mark.parametrize("rho", [0.0, 0.7])
def test_chance_alone_is_seldom_named(shape, rho):
    """Two samples of the same distribution, 150 times 2 rows: about one false alarm in a hundred tables."""
    rng = np.random.default_rng(21)
    change = {"normal": lambda z: z, "skewed": np.exp, "heavy": lambda z: np.sinh(2.0 * z) / 2.0}[shape]
    names = ("a", "b")
    alarms, errors = 0, []
    for _ in range(150):
        one, other = (of_chains(names, [change(chains(rng, rho)) for _ in names]) for _ in range(2))
        found = [compared(one, other, name, bar_of(6)) for name in names]
        alarms += any(difference.trouble for difference in found)
        errors += [difference.shift / difference.error for difference in found]
        if shape == "heavy":
            assert all(difference.heavy for difference in found)
    assert alarms <= 3
    # the errors are as large as they say
    assert 0.8 < np.std(errors) < 1.35 and abs(np.mean(errors)) < 4 * np.std(errors) / np.sqrt(len(errors))


def test_the_bar_grows_with_the_number_of_tests():
    assert bar_of(10) == 4.0 and bar_of(10_000) > 4.7


def test_a_parameter_that_is_held_fast():
    rng = np.random.default_rng(1)
    moving, still = (of_chains(("s",), [x]) for x in (chains(rng), np.full((4, 400), 2.0)))
    assert "in every draw there" in compared(moving, still, "s", 4.0).trouble
    assert compared(still, still, "s", 4.0).trouble == ""
    assert compared(still, moving, "s", 4.0).trouble


def test_few_draws_have_no_error_of_quantiles():
    few = of_chains(("a",), [np.random.default_rng(1).standard_cauchy((2, 30))])
    assert np.isinf(few.median_error).all()


def test_marginals_carry_the_error_of_the_check(agreed):
    inla = agreed.results["inla"]
    sample = sample_of(inla, groups=False)
    np.testing.assert_allclose(sample.error, float(inla.approximation.check["error"]) * sample.sd)
    without = sample_of(replace_check(inla), groups=False)
    assert (without.error == 0.0).all()


def replace_check(result):
    return replace(result, approximation=replace(result.approximation, check={}))


# ---- the picture and the shell ---------------------------------------------------------------


def test_the_picture(agreed, tmp_path):
    picture = agreed.plot(save=tmp_path / "agreement.png")
    assert (tmp_path / "agreement.png").stat().st_size > 10_000
    shifts, ratios, distances = picture.axes
    assert [label.get_text() for label in shifts.get_yticklabels()] == [
        "beta[Intercept]", "beta[x]", "sd_g[Intercept]", "sigma",
    ]  # fmt: skip
    assert picture.get_suptitle() == "Agreement with gibbs"
    words = [text.get_text() for text in picture.legends[0].get_texts()]
    assert words[:2] == ["metropolis", "inla"] and "reml (estimates)" in words
    # marks stand where the table says
    x = shifts.containers[0][0].get_xdata()
    np.testing.assert_allclose(x, agreed.table.xs("metropolis", level="engine")["difference"])
    assert distances.get_xlim()[0] == 0.0 and ratios.get_xlabel() == "ratio of sds"


def test_the_picture_shows_the_largest_of_many(model):
    found = bayou.agreement(model, ["gibbs", Wrong(shift=1.0)], seed=3, draws=200)
    picture = found.plot(limit=1)
    assert [label.get_text() for label in picture.axes[0].get_yticklabels()] == ["beta[x]"]
    assert "The 1 of 4 parameters that differ the most" in picture.get_supxlabel().replace("\n", " ")
    alone = bayou.agreement(model, ["gibbs", "laplace"], seed=1, draws=100)
    alone.results.pop("laplace")
    with pytest.raises(DataError, match="no second engine"):
        replace(alone, table=alone.table.xs("gibbs", level="engine", drop_level=False)).plot()


def invoke(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_agree_on_the_shell(tmp_path):
    pd.DataFrame(table()).to_csv(tmp_path / "data.csv", index=False)
    done = invoke(
        "agree", FORMULA, tmp_path / "data.csv", "--engine", "gibbs", "--engine", "inla", "--out", tmp_path / "out"
    )
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("Agreement: ok.") and "agrees with gibbs" in done.stdout
    written = pd.read_csv(tmp_path / "out" / "agreement.csv")
    assert set(written["engine"]) == {"gibbs", "inla"} and (tmp_path / "out" / "agreement.png").exists()
    done = invoke("agree", FORMULA, tmp_path / "data.csv", "--engine", "gibbs", "--engine", "metropolis", "--draws", 30)
    assert done.exit_code == 1 and "NOT OK" in done.stdout
    done = invoke("agree", FORMULA, tmp_path / "data.csv", "--engine", "gibs", "--engine", "inla")
    assert done.exit_code == 2 and "Did you mean 'gibbs'" in done.stderr


def test_compare_on_the_shell(tmp_path):
    data = pd.DataFrame(table())
    folders = []
    for name, formula in (("none", "y ~ 1 + (1 | g)"), ("slope", FORMULA)):
        fit = bayou.fit(formula, data, priors=PRIORS, engine="gibbs", seed=1, draws=500)
        (tmp_path / name).mkdir()
        fit.save(tmp_path / name / "fit.nc")
        folders.append(tmp_path / name)
    done = invoke("compare", *folders, "--out", tmp_path / "table.csv")
    assert done.exit_code == 0, done.output
    written = pd.read_csv(tmp_path / "table.csv", index_col="fit")
    assert list(written.index) == ["slope", "none"] and "elpd" in done.stdout
    done = invoke("compare", folders[0] / "fit.nc", folders[1] / "fit.nc")
    assert done.exit_code == 0 and FORMULA in done.stdout
    done = invoke("compare", *folders, "--names", "a, b")
    assert done.exit_code == 0 and re.search(r"^b +", done.stdout, re.M)
    done = invoke("compare", folders[0])
    assert done.exit_code == 2 and "at least two fits" in done.stderr
    done = invoke("compare", folders[0], tmp_path / "nothing.nc")
    assert done.exit_code == 2 and "nothing.nc" in done.stderr
