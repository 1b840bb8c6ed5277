"""Files: the round trip of everything, and files that are not what they should be."""

from __future__ import annotations

import json
import os
import shutil
import threading

import numpy as np
import pandas as pd
import pytest

import bayou
from bayou.errors import FileError
from bayou.fitting import Fit, load
from bayou.model import Model
from bayou.posterior import Posterior, storage
from bayou.priors import HalfT, Normal, OfVariance, Uniform


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    rng = np.random.default_rng(5)
    n = 60
    site = rng.integers(0, 6, n)
    return pd.DataFrame(
        {
            "y": rng.normal(size=n) + site,
            "x": rng.normal(size=n),
            "w": rng.uniform(0.5, 2, n),
            "arm": pd.Categorical(rng.choice(["b", "a"], n), categories=["b", "a", "c"]),
            "site": site + 2**40,
            "year/month": rng.choice(["één", "zwei"], n),
            "flag": rng.random(n) > 0.5,
            "when": pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 400, n), "D"),
        }
    )


def fitted(model: Model, draws: int = 40) -> Fit:
    """Hand-made draws of the right shapes: files do not care where they come from."""
    rng = np.random.default_rng(1)
    design, shape = model.design, (2, draws)
    out = {"beta": rng.normal(size=(*shape, design.X.shape[1]))}
    names = Posterior(model, "", out).names
    acceptance = {}
    for g in design.groupings:
        p, name = g.Z.shape[1], names[g.name]
        out[f"sd_{name}"] = rng.uniform(0.5, 1, (*shape, p))
        out[f"b_{name}"] = rng.normal(size=(*shape, len(g.levels), p))
        acceptance[f"acceptance_{name}"] = rng.random((2, len(g.levels)))
        if p > 1:
            out[f"cor_{name}"] = np.broadcast_to(np.eye(p), (*shape, p, p)).copy()
    if model.family.dispersion and not model.dispersion_known:
        levels = (len(design.sigma_levels),) if design.sigma_by else ()
        out[model.family.dispersion] = rng.uniform(0.5, 1, (*shape, *levels))
    info = {"engine": "gibbs", "seconds": 1.5, "seed": 2**100, "messages": ["A sentence."]}
    return Fit(Posterior(model, "Gibbs()", out, {"lp": rng.normal(size=shape)}, info, acceptance))


FORMULAS = [
    "y ~ x + arm + (1 + x | site)",
    "y ~ poly(x, 2) + center(x, by=site) + when + (1 | site) + (1 | `year/month`) + (0 + x | site:arm)",
    "y ~ 0 + (1 | site)",
    "y ~ flag * arm",
]


@pytest.mark.parametrize("formula", FORMULAS)
def test_a_loaded_fit_is_the_fit(formula: str, frame: pd.DataFrame, tmp_path) -> None:
    fit = fitted(Model(formula, frame, weights="w"))
    path = fit.save(tmp_path / "fit.nc")
    again = load(path)
    pd.testing.assert_frame_equal(again.summary(groups=True), fit.summary(groups=True))
    assert str(again) == str(fit) and again.result.info == fit.result.info
    assert str(again.model.priors) == str(fit.model.priors)
    for key, values in fit.result.draws.items():
        np.testing.assert_array_equal(again.result.draws[key], values)
    new = frame.iloc[[3, 1, 4]]
    np.testing.assert_allclose(again.predict(new, kind="outcome", seed=1), fit.predict(new, kind="outcome", seed=1))
    np.testing.assert_allclose(again.predict(), fit.predict())
    np.testing.assert_array_equal(again.posterior["log_likelihood"]["y"], fit.posterior["log_likelihood"]["y"])


def test_priors_weights_and_residual_sds_come_back_exactly(frame: pd.DataFrame, tmp_path) -> None:
    priors = {
        "beta": Normal([0.0, 1 / 3], cov=[[4.0, 1.0], [1.0, 9.0]]),
        "sd_site": HalfT(3, 0.1),
        "sigma": OfVariance(Uniform(0, 9)),
    }
    model = Model("y ~ x + (1 | site)", frame, priors=priors, weights=frame["w"].to_numpy(), sigma_by="arm")
    again = load(fitted(model).save(tmp_path / "fit.nc")).model
    assert dict(again.priors) == dict(model.priors)
    np.testing.assert_array_equal(again.bound.beta_precision, model.bound.beta_precision)
    np.testing.assert_array_equal(again.design.weights, model.design.weights)
    assert list(again.design.sigma_levels) == list(model.design.sigma_levels) == ["b", "a"]


@pytest.mark.parametrize(("family", "link"), [("binomial", "probit"), ("negative_binomial", "log"), ("gamma", "log")])
def test_families_and_links_come_back(family: str, link: str, tmp_path) -> None:
    rng = np.random.default_rng(0)
    data = {"k": rng.integers(1, 5, 30), "n": np.full(30, 6), "g": np.arange(30) % 5}
    left = "proportion(k, n)" if family == "binomial" else "k"
    chosen = type(bayou.families.get(family))(link=link)
    fit = fitted(Model(f"{left} ~ 1 + (1 | g)", data, chosen))
    again = load(fit.save(tmp_path / "fit.nc"))
    assert again.model.family == chosen
    np.testing.assert_array_equal(again.model.design.trials, fit.model.design.trials)


def test_own_functions_must_be_given_again(frame: pd.DataFrame, tmp_path) -> None:
    def half(x):
        return x / 2

    fit = fitted(Model("y ~ half(x) + (1 | site)", frame, functions={"half": half}))
    path = fit.save(tmp_path / "fit.nc")
    with pytest.raises(FileError, match=r"half.*functions="):
        load(path)
    np.testing.assert_allclose(load(path, functions={"half": half}).predict(), fit.predict())


def test_a_subset_of_the_effects_and_their_moments_come_back(frame: pd.DataFrame, tmp_path) -> None:
    fit = fitted(Model("y ~ x + (1 | site)", frame))
    result = fit.result
    moments = {"mean_b_site": np.ones((2, 6, 1)), "sd_within_b_site": np.ones((2, 6, 1))}
    draws = {**result.draws, "b_site": result.draws["b_site"][:, 4::5], **moments}
    part = Fit(Posterior(result.model, "Gibbs()", draws, info={"effect_draws": list(range(4, 40, 5))}))
    again = load(part.save(tmp_path / "fit.nc"))
    pd.testing.assert_frame_equal(again.random_effects("site"), part.random_effects("site"))
    np.testing.assert_allclose(again.predict(), part.predict())


def test_arviz_opens_the_file(frame: pd.DataFrame, tmp_path) -> None:
    import xarray as xr

    fit = fitted(Model("y ~ x + (1 + x | site)", frame))
    path = fit.save(tmp_path / "fit.nc")
    with xr.open_datatree(path, engine="h5netcdf") as tree:
        np.testing.assert_array_equal(tree["posterior"]["b_site"], fit.result.draws["b_site"])
        assert list(tree["posterior"]["coefficient"].values) == ["Intercept", "x"]
        assert tree["posterior"]["site"].values[0] == frame["site"].min()


def test_the_file_is_replaced_whole_and_closed_after_reading(frame: pd.DataFrame, tmp_path) -> None:
    fit = fitted(Model("y ~ x + (1 | site)", frame))
    path = tmp_path / "fit.nc"
    fit.save(path)
    again = load(path)
    again.save(path)  # onto the file it came from
    assert os.listdir(tmp_path) == ["fit.nc"]
    path.unlink()
    assert len(again.predict()) == 60


def test_a_failed_write_leaves_the_old_file(frame: pd.DataFrame, tmp_path, monkeypatch) -> None:
    fit = fitted(Model("y ~ x + (1 | site)", frame))
    path = fit.save(tmp_path / "fit.nc")
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(storage.os, "fsync", full)
    with pytest.raises(FileError, match=r"fit.nc cannot be written.*No space left"):
        fit.save(path)
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["fit.nc"]


def test_files_that_cannot_be_read_are_explained(frame: pd.DataFrame, tmp_path) -> None:
    fit = fitted(Model("y ~ x + (1 | site)", frame))
    path = fit.save(tmp_path / "fit.nc")
    with pytest.raises(FileError, match="no file"):
        load(tmp_path / "other.nc")
    with pytest.raises(FileError, match="no file"):
        load(tmp_path)
    with pytest.raises(FileError, match="folder that exists"):
        fit.save(tmp_path / "nowhere" / "fit.nc")
    (tmp_path / "text.nc").write_text("y,x\n1,2\n")
    with pytest.raises(FileError, match="damaged or not a netCDF"):
        load(tmp_path / "text.nc")
    whole = path.read_bytes()
    for cut in (0, 100, len(whole) // 2, len(whole) - 10):
        (tmp_path / "cut.nc").write_bytes(whole[:cut])
        with pytest.raises(FileError, match="cut.nc"):
            load(tmp_path / "cut.nc")


def test_any_flipped_byte_of_the_draws_is_noticed(frame: pd.DataFrame, tmp_path) -> None:
    fit = fitted(Model("y ~ x + (1 | site)", frame))
    path = fit.save(tmp_path / "fit.nc")
    whole = path.read_bytes()
    where = whole.index(fit.result.draws["b_site"].tobytes()[:64])
    path.write_bytes(whole[: where + 9] + bytes([whole[where + 9] ^ 1]) + whole[where + 10 :])
    with pytest.raises(FileError, match="posterior/b_site does not match its checksum"):
        load(path)


def edit_header(path, change) -> None:
    import h5netcdf

    with h5netcdf.File(path, "r+") as file:
        group = file.groups["bayou"]
        header = json.loads(group.variables["header"][...].tobytes())
        change(header)
        text = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)
        size = group.variables["header"].shape[0]
        text = np.concatenate([text, np.full(size - len(text), ord(" "), dtype=np.uint8)])
        group.variables["header"][...] = text
        group.attrs["checksum"] = storage._checksum(text)


def shorten(header: dict) -> None:
    """Make room, so that an edited header fits in the place of the old one."""
    header["info"] = {}


def test_foreign_newer_and_hostile_files_are_refused(frame: pd.DataFrame, tmp_path) -> None:
    import xarray as xr

    fit = fitted(Model("y ~ x + (1 | site)", frame))
    path = fit.save(tmp_path / "fit.nc")
    foreign = tmp_path / "foreign.nc"
    xr.Dataset({"a": ("t", [1.0])}).to_netcdf(foreign, engine="h5netcdf")
    with pytest.raises(FileError, match="no result of bayou"):
        load(foreign)

    def newer(header: dict) -> None:
        shorten(header)
        header["format"] = 99

    def code(header: dict) -> None:
        shorten(header)
        header["model"]["formula"] = "y ~ I(__import__('os'))"

    def prior(header: dict) -> None:
        shorten(header)
        header["model"]["priors"]["sigma"]["class"] = "Popen"

    for change, words in ((newer, "newer format"), (code, "cannot be read.*not"), (prior, "damaged")):
        copy = tmp_path / "edited.nc"
        shutil.copy(path, copy)
        edit_header(copy, change)
        with pytest.raises(FileError, match=words):
            load(copy)


def test_fits_can_be_saved_from_threads(frame: pd.DataFrame, tmp_path) -> None:
    fit = fitted(Model("y ~ x + (1 | site)", frame))
    fit.save(tmp_path / "0.nc")
    threads = [threading.Thread(target=fit.save, args=(tmp_path / f"{k}.nc",)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(len(load(tmp_path / f"{k}.nc").summary()) for k in range(4))
