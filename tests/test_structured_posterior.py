"""Results with structured effects: names, rows, the tree, summaries, files."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.special import ndtri

import bayou
import structured_models as models
from bayou.errors import DataError, FileError, Unsupported
from bayou.fitting import Fit
from bayou.posterior import Errors, Estimates, Posterior, storage
from bayou.posterior.names import dimensions
from bayou.posterior.packing import difference, pack, unpack
from bayou.posterior.summaries import structured_frame, summary_frame
from bayou.verdict import examine

BY = "y ~ x + rw1(t, by=g) + leroux(area, graph=W) + (1 | animal, covariance=A)"


@pytest.fixture(scope="module")
def plain():
    return models.posterior()


@pytest.fixture(scope="module")
def by():
    return models.posterior(models.model(BY))


def test_rows_stand_after_the_groups_and_before_the_dispersion():
    po = models.posterior(models.model("y ~ x + rw2(t) + bym2(area, graph=W) + (1 | h)", "negative_binomial"))
    assert list(po.rows) == [
        "beta[Intercept]",
        "beta[x]",
        "sd_h[Intercept]",
        "sd_t",
        "sd_area",
        "phi_area",
        "phi",
    ]


def test_names_of_values_and_their_places(by):
    rows = by.effect_rows()
    assert list(rows)[:2] == ["f_t:g[p,0]", "f_t:g[p,1]"] and "f_area[c]" in rows and "f_animal[bob]" in rows
    assert len(rows) == 3 * 24 + 6 + 4
    np.testing.assert_array_equal(by.values(rows["f_t:g[q,5]"]), by.draws["f_t:g"][:, :, 1, 5])
    assert by.structured_draws("area").shape == (2, 200, 1, 6) and by.structured_draws("t:g").shape == (2, 200, 3, 24)


def test_dimensions_of_the_tree(by):
    posterior = by.tree["posterior"]
    assert posterior["f_t:g"].dims == ("chain", "draw", "g", "t:g")
    assert posterior["f_area"].dims == ("chain", "draw", "area") and posterior["rho_area"].dims == ("chain", "draw")
    assert posterior["g"].values.tolist() == ["p", "q", "r"] and posterior["t:g"].values.tolist() == list(range(24))


@pytest.mark.parametrize(
    ("name", "by", "taken", "wanted"),
    [
        ("draw", None, {}, ("draw_",)),
        ("t", None, {"t": np.array(["a", "b"], dtype=object)}, ("t_",)),
        ("t", None, {"t": np.array([1, 2])}, ("t",)),
        ("a/b", None, {}, ("a_b",)),
        ("t:g", "g", {"g": np.array(["u", "v"], dtype=object)}, ("g", "t:g")),
        ("t:g", "g", {"g": np.array(["u", "w"], dtype=object)}, ("g_", "t:g")),
        ("t:coefficient", "coefficient", {}, ("coefficient_", "t:coefficient")),
    ],
)
def test_a_dimension_that_is_taken_gets_an_underscore(name, by, taken, wanted):
    term = SimpleNamespace(
        name=name,
        by=by,
        nodes=np.array([1, 2], dtype=object),
        replicates=np.array(["u", "v"], dtype=object),
    )
    coords = dict(taken)
    assert dimensions(term, coords) == wanted
    assert all(len(coords[d]) == 2 for d in wanted)


def test_summary_has_a_row_for_each_value_when_asked(plain):
    frame = summary_frame(plain, examine(plain), 0.9, groups=True)
    assert list(frame.index)[:6] == list(plain.rows)
    row = frame.loc["f_t[3]"]
    draws = plain.draws["f_t"][:, :, 3]
    assert row["mean"] == pytest.approx(draws.mean()) and row["upper"] == pytest.approx(np.quantile(draws, 0.95))
    assert row["r_hat"] > 0.9 and "f_area[f]" in frame.index and "b_h[s1,Intercept]" in frame.index


def test_frame_of_one_effect(plain, by):
    frame = structured_frame(plain, "area", 0.95)
    assert frame.index.name == "area" and list(frame.index) == list("abcdef")
    assert list(frame.columns) == ["mean", "sd", "lower", "median", "upper"]
    copies = structured_frame(by, "t:g", 0.95)
    assert copies.index.names == ["g", "t"] and len(copies) == 72
    assert copies.loc[("q", 5), "mean"] == pytest.approx(by.draws["f_t:g"][:, :, 1, 5].mean())
    with pytest.raises(DataError, match=r"no structured effect 'h'.*'t', 'area'"):
        structured_frame(plain, "h", 0.95)


def test_groups_and_structured_effects_are_not_mixed_up(plain):
    with pytest.raises(DataError, match=r"fit\.structured\('area'\)"):
        Fit(plain).random_effects("area")


def test_draws_that_were_not_kept():
    full = models.posterior()
    kept = [0, 50, 100, 150]
    draws = dict(full.draws)
    for name in ("area", "t"):
        every = draws.pop(f"f_{name}")
        draws[f"f_{name}"] = every[:, kept]
        draws |= {f"mean_f_{name}": every.mean(axis=1), f"sd_within_f_{name}": every.std(axis=1)}
    b = draws.pop("b_h")
    draws["b_h"] = b[:, kept]
    part = Posterior(full.model, full.engine, draws, info={**full.info, "effect_draws": kept})
    assert part.size == 200 and part.place("f_t") == "effects"
    assert set(part.moments) == {"mean_f_area", "sd_within_f_area", "mean_f_t", "sd_within_f_t"}
    frame = structured_frame(part, "t", 0.95)
    every = full.draws["f_t"].reshape(-1, 24)
    # means and sds are of all draws, quantiles of those that were kept
    np.testing.assert_allclose(frame["mean"], every.mean(axis=0), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(frame["sd"], every.std(axis=0), rtol=1e-12)
    assert part.tree["effects"]["f_t"].dims == ("chain", "draw", "t")
    assert Fit(part).predict(draws=True).shape == (2, 4, 120)


def test_without_draws_it_says_so():
    full = models.posterior()
    bare = Posterior(full.model, full.engine, {k: v for k, v in full.draws.items() if k != "f_t"}, info=full.info)
    with pytest.raises(Unsupported, match=r"f_t.*keep_effects=True"):
        structured_frame(bare, "t", 0.95)
    with pytest.raises(Unsupported, match=r"f_t"):
        Fit(bare).predict(groups="population")


def test_an_approximation_is_summarised_by_its_densities():
    po = models.approximated()
    frame = summary_frame(po, examine(po), 0.9, groups=True)
    found = po.approximation
    for name in po.rows:
        one = found.marginals[name]
        row = frame.loc[name]
        assert (row["mean"], row["sd"]) == (one.mean, one.sd)
        assert [row["lower"], row["median"], row["upper"]] == pytest.approx(one.quantile([0.05, 0.5, 0.95]))
    mixture = found.effect("f_area")
    assert frame.loc["f_area[b]", "upper"] == pytest.approx(mixture.quantile(0.95)[1])
    assert frame.loc["b_h[s2,Intercept]", "sd"] == pytest.approx(found.effect("b_h").sd[1, 0])
    assert frame[["r_hat", "ess_bulk", "ess_tail"]].isna().all().all()


def test_rows_without_a_density_are_described_by_draws():
    po = models.approximated()
    del po.approximation.marginals["sd_t"], po.approximation.effects["f_t"]
    frame = summary_frame(po, examine(po), 0.9, groups=True)
    assert frame.loc["sd_t", "mean"] == pytest.approx(po.draws["sd_t"].mean())
    assert frame.loc["f_t[0]", "lower"] == pytest.approx(np.quantile(po.draws["f_t"][..., 0], 0.05))


def test_modes_and_prediction_errors_of_a_likelihood_engine():
    full = models.posterior()
    rows = tuple(full.rows)
    scale = tuple("identity" if r.startswith("beta") else "logit" if r.startswith("phi_") else "log" for r in rows)
    estimate = np.array([full.values(p).mean() for p in full.rows.values()])
    errors = Errors(np.full(len(rows), 0.1), 0.01 * np.eye(2), 0.04 * np.eye(4))
    modes = {
        "t": (np.arange(24.0), np.ones(24)),
        "area": (np.arange(6.0), np.full(6, 0.5)),
        "h": (np.zeros((5, 1)),) * 2,
    }
    found = Estimates(
        method="Laplace",
        rows=rows,
        estimate=estimate,
        scale=scale,
        theta=np.zeros(4),
        errors=errors,
        log_likelihood=-300.0,
        parameters=6,
        observations=120,
        criterion="log likelihood",
        converged=True,
        gradient=1e-9,
        iterations=5,
        effects=modes.__getitem__,
    )
    po = Posterior(full.model, "Laplace()", full.draws, {}, full.info, estimates=found)
    frame = structured_frame(po, "area", 0.95)
    np.testing.assert_allclose(frame["upper"], np.arange(6.0) + ndtri(0.975) * 0.5)
    phi = found.interval(0.95)[1][rows.index("phi_area")]
    x = estimate[rows.index("phi_area")]
    reach = ndtri(0.975) * 0.1 / (x * (1 - x))
    assert phi == pytest.approx(1 / (1 + (1 - x) / x * np.exp(-reach)))
    again = storage.load(storage.save(po, _path(po)))
    assert structured_frame(again, "t", 0.95).equals(structured_frame(po, "t", 0.95))


def _path(_):
    import tempfile

    return f"{tempfile.mkdtemp()}/fit.nc"


# ---- files ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["draws", "densities"])
def test_a_file_there_and_back(by, tmp_path, kind):
    po = by if kind == "draws" else models.approximated(by)
    fit = Fit(po)
    again = bayou.load(fit.save(tmp_path / "fit.nc"))
    assert str(again) == str(fit)
    assert again.structured("t:g").equals(fit.structured("t:g"))
    new = {"x": [0.0, 1.0], "t": [3, 30], "g": ["p", "q"], "area": ["a", "e"], "animal": ["bob", "dot"]}
    assert again.predict(new, groups="new").equals(fit.predict(new, groups="new"))
    graph = again.model.design.structures["W"]
    np.testing.assert_array_equal(graph.edges, fit.model.design.structures["W"].edges)
    names, A = again.model.design.structures["A"]
    assert list(names) == ["ann", "bob", "cid", "dot"]
    np.testing.assert_array_equal(A, models.relationship()[1])
    if kind == "densities":
        assert again.log_marginal == fit.log_marginal and again.dic == fit.dic
        assert again.pit.equals(fit.pit)


def test_a_sparse_precision_with_islands_is_packed(tmp_path):
    from scipy.sparse import csc_matrix

    data = models.data()
    Q = csc_matrix(np.linalg.inv(models.relationship()[1]).round(12))
    Q = 0.5 * (Q + Q.T)
    W = (list("abcdefz"), [])  # seven islands, no edge at all
    model = bayou.Model(
        "y ~ leroux(area, graph=W) + (1 | animal, precision=Q)",
        data,
        "poisson",
        structures={"W": W, "Q": (models.relationship()[0], Q)},
    )
    facts, arrays = pack(model)
    again = unpack(json.loads(json.dumps(facts)), {k: v for k, v in arrays.items() if v.size}, {})
    names, matrix = again.design.structures["Q"]
    np.testing.assert_array_equal(matrix.toarray(), model.design.structures["Q"][1].toarray())
    assert list(names) == models.relationship()[0] and len(again.design.structures["W"].edges) == 0
    assert difference((facts, arrays), pack(again)) is None


def test_another_graph_is_another_model():
    one = models.model()
    data = models.data()
    other = bayou.Model(one.text, data, "poisson", structures={"W": [*models.EDGES, ("a", "f")]})
    assert difference(pack(one), pack(other)) == "another object 'W' in structures="


def test_an_older_bayou_is_told_what_it_cannot_read(plain, tmp_path, monkeypatch):
    path = storage.save(plain, tmp_path / "fit.nc")
    monkeypatch.setattr(storage, "FORMAT", 2)
    with pytest.raises(FileError, match="newer format"):
        storage.load(path)


@pytest.mark.parametrize("column", ["sigma", "beta", "chain", "draw", "coefficient", "row", "sd_sigma"])
def test_a_column_called_as_a_variable_or_dimension(column):
    data = models.data() | {"sigma": models.data()["y"] * 0 + models.data()["t"]} | {column: models.data()["t"]}
    of = bayou.Model(f"x ~ rw1({column}) + ar1(sigma)" if column != "sigma" else "x ~ rw1(sigma)", data)
    tree = models.posterior(of).tree
    assert f"f_{column}" in tree["posterior"].data_vars
    assert tree["posterior"][f"f_{column}"].dims[2].rstrip("_") == column
