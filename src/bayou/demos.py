"""The demonstrations of the command line: a model, its fit and its pictures, from built-in data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bayou.errors import BayouError, FileError, Unsupported
from bayou.formula.words import did_you_mean
from bayou.predict.structured import is_curve

if TYPE_CHECKING:
    from bayou.fitting import Fit
    from bayou.model import Model

__all__ = ["DEMOS", "Demo", "folder_for", "run", "save_pictures"]

Say = Callable[[str], None]
SAMPLERS = ("gibbs", "metropolis", "auto")
SHOWN = 12  # values of a structured effect in a table


@dataclass(frozen=True)
class Demo:
    """One demonstration.

    Attributes
    ----------
    name
        Of the demonstration and of its built-in data.
    story
        What it is about, in one sentence.
    formula, family, engine
        As for `bayou.fit`.
    x
        The column along which bands are drawn, or None.
    unit_information
        Whether the priors are `Priors.unit_information` instead of the defaults.
    draws
        Kept per chain.
    walk
        Whether Hoff's random walk is run beside the default proposal.
    methods
        Whether the same model is estimated by every method without sampling too, side by side.
    factors
        Of which the terms are tested and the marginal means printed.
    graphs
        Names in the formula and the data sets whose graphs they stand for.
    """

    name: str
    story: str
    formula: str
    family: str
    engine: str
    x: str | None
    draws: int = 2000
    unit_information: bool = False
    walk: bool = False
    methods: bool = False
    factors: tuple[str, ...] = ()
    graphs: tuple[tuple[str, str], ...] = ()


DEMOS = {
    demo.name: demo
    for demo in (
        Demo(
            "clinic",
            "Does the drug work? A binomial model of eight clinics, each with its own level.",
            "proportion(favorable, patients) ~ treatment + (1 | clinic)",
            "binomial",
            "metropolis",
            None,
            methods=True,
        ),
        Demo(
            "tumor",
            "Tumours along the intestine: a polynomial of degree 4 for each mouse, as in Hoff's chapter 11.",
            "count ~ poly(x, 4, raw=True) + (poly(x, 4, raw=True) | mouse)",
            "poisson",
            "metropolis",
            "x",
            draws=5000,
            unit_information=True,
            walk=True,
        ),
        Demo(
            "bass",
            "Mercury in fish against their length: a line for each station, level and slope independent.",
            "log(mercury) ~ center(log(length), by=station) + (center(log(length), by=station) || station)",
            "gaussian",
            "gibbs",
            "length",
        ),
        Demo(
            "school",
            "Mathematics scores against socio-economic status: a line for each school.",
            "score ~ center(ses, by=school) + (center(ses, by=school) | school)",
            "gaussian",
            "gibbs",
            "ses",
        ),
        Demo(
            "range",
            "Plants on the range: seven managements on whole plots of four blocks, four seed mixes on sub-plots.",
            "plants ~ management + mix + (1 | block/management)",
            "negative_binomial",
            "laplace",
            None,
            factors=("management", "mix"),
        ),
        Demo(
            "rain",
            "The chance of rain on each day of the year: a cyclic random walk of second order, by INLA.",
            "proportion(rain, years) ~ rw2(day, cyclic=True)",
            "binomial",
            "inla",
            None,
        ),
        Demo(
            "counties",
            "The risk of a disease over a map: neighbouring counties are alike, by INLA.",
            "cases ~ outdoor + bym2(county, graph=W) + offset(log(expected))",
            "poisson",
            "inla",
            None,
            graphs=(("W", "counties"),),
        ),
    )
}


def run(name: str, data: Any, folder: Path, seed: int, draws: int | None, say: Say) -> Fit:
    """Fit the model, print the fit with its priors, and draw its pictures.

    Parameters
    ----------
    name
        Of the demonstration.
    data
        A table with the columns of the built-in data, or None for the built-in data.
    folder
        Where the pictures go, in a folder of the demonstration's name.
    seed, draws
        Of the fit; draws kept per chain, or None for as many as the demonstration needs.
    say
        Called with each text to show.

    Raises
    ------
    Unsupported
        For a demonstration that does not exist.
    """
    from bayou import datasets, engines
    from bayou.fitting import fit

    if name not in DEMOS:
        known = ", ".join(DEMOS)
        raise Unsupported(f"there is no demo {name!r}.{did_you_mean(name, DEMOS)} There are {known}.")
    demo = DEMOS[name]
    draws = demo.draws if draws is None else draws
    say(f"{demo.story}\n")
    say(str(datasets.describe(name)) if data is None else f"Data: {data}")
    model = _model(demo, datasets.load(name) if data is None else data)
    target = folder_for(folder / name)
    say("")
    sampled = demo.engine in SAMPLERS
    made = fit(model, engine=engines.get(demo.engine, **({"draws": draws} if sampled else {})), seed=seed)
    say(f"{made}\n")
    if demo.factors:
        say(f"{made.anova()}\n")
        for factor in demo.factors:
            say(f"{made.marginal_means(factor).to_string(float_format='{:.3g}'.format)}\n")
    for name in made.result.structured:
        say(f"{_shortened(made, name)}\n")
    if demo.methods:
        say(_by_every_method(model))
    pictures = save_pictures(made, target, demo.x, say)
    if demo.walk:
        # Hoff's scans are cheap and dependent: ten of them for each kept draw
        hoff = engines.Metropolis(proposal="random_walk", draws=draws, thin=10, warmup=5000)
        walk = fit(model, engine=hoff, seed=seed)
        say(_side_by_side({"random walk": walk, "default proposal": made}))
        pictures += _save(target, {"random_walk_autocorrelation": walk.plot.autocorrelation}, say)
    say(f"{len(pictures)} pictures are in {target}: {', '.join(path.name for path in pictures)}")
    return made


def _model(demo: Demo, data: Any) -> Model:
    from bayou import datasets
    from bayou.model import Model
    from bayou.priors import Priors

    structures = {name: datasets.graph(of) for name, of in demo.graphs} or None
    model = Model(demo.formula, data, demo.family, structures=structures)
    if not demo.unit_information:
        return model
    return Model(demo.formula, data, demo.family, Priors.unit_information(model))


def _shortened(made: Fit, name: str) -> str:
    """Write some of the values of a structured effect: along a curve, or the lowest and the highest areas."""
    from bayou.plot.style import spread_out

    frame, term = made.structured(name), made.result.structured[name]
    if is_curve(term):
        some, which = spread_out(len(frame), SHOWN), "evenly spaced"
    else:
        order = frame["mean"].to_numpy().argsort(kind="stable")
        some, which = [int(k) for k in (*order[: SHOWN // 2], *order[-(SHOWN // 2) :])], "the lowest and the highest"
    rows = sorted(set(some)) if is_curve(term) else list(dict.fromkeys(some))
    said = f"{term.text}: {len(rows)} of {len(frame)} values, {which}" if len(rows) < len(frame) else term.text
    return f"{said}\n{frame.iloc[rows].to_string(float_format='{:.3g}'.format)}"


def _side_by_side(fits: dict[str, Fit]) -> str:
    """Write the estimates of the same model by two samplers, with their acceptance and speed."""
    summaries = {title: made.summary() for title, made in fits.items()}
    first = next(iter(summaries.values()))
    width = max(len(name) for name in first.index)
    lines = ["The same posterior by two samplers: mean (sd) and effective draws a second", ""]
    lines.append(" " * width + "".join(f"{title:>36}" for title in fits))
    for name in first.index:
        cells = []
        for title, made in fits.items():
            row = summaries[title].loc[name]
            speed = row["ess_bulk"] / made.seconds
            cells.append(f"{row['mean']:>14.4g} ({row['sd']:.3g}){speed:>10,.0f}/s")
        lines.append(f"{name:<{width}}" + "".join(f"{cell:>36}" for cell in cells))
    rates = []
    for title, made in fits.items():
        found = [v for k, v in made.result.group_statistics.items() if k.startswith("acceptance")]
        if found:
            rates.append(f"{title} {100 * float(sum(v.mean() for v in found)) / len(found):.1f} %")
    return "\n".join([*lines, "", f"Accepted proposals: {', '.join(rates)}.", ""])


def _by_every_method(model: Model) -> str:
    """Estimate a binomial model with one grouping factor by each method without sampling, side by side."""
    from bayou import engines
    from bayou.fitting import fit

    methods = {
        "PQL": engines.PQL(),
        "PQL, phi free": engines.PQL(dispersion="free"),
        "PQL by ML, phi free": engines.PQL(method="ml", dispersion="free"),
        "Laplace": engines.Laplace(),
        "quadrature, 5 nodes": engines.Quadrature(nodes=5),
        "quadrature, 61 nodes": engines.Quadrature(nodes=61),
    }
    names = [*model.design.coefficients, "variance"]
    lines = ["The same model by methods that do not sample: estimate (standard error)", ""]
    lines.append(" " * 22 + "".join(f"{name:>24}" for name in names) + f"{'-2 log L':>12}")
    for title, engine in methods.items():
        found = fit(model, engine=engine, seed=1).result.estimates
        assert found is not None
        cells = [f"{found.estimate[k]:.4f} ({found.se[k]:.4f})" for k in range(len(names) - 1)]
        cells.append(f"{found.estimate[len(names) - 1] ** 2:.4f}")
        loglik = "" if found.log_likelihood != found.log_likelihood else f"{-2.0 * found.log_likelihood:.4f}"
        lines.append(f"{title:<22}" + "".join(f"{cell:>24}" for cell in cells) + f"{loglik:>12}")
    return "\n".join([*lines, ""])


def folder_for(path: Path) -> Path:
    """Make a folder for output.

    Raises
    ------
    FileError
        If it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        said = f"the folder {path} cannot be made: {error.strerror}. Name another with --out."
        raise FileError(said) from error
    return path


def save_pictures(made: Fit, folder: Path, x: str | None, say: Say) -> list[Path]:
    """Draw every picture that applies to a fit and say which do not, and why.

    Parameters
    ----------
    made
        The fit.
    folder
        Where the files go, named after the pictures.
    x
        Column along which bands are drawn, or None for none.
    say
        Called with a sentence for each picture that does not apply.
    """
    plot = made.plot
    makers: dict[str, Callable[[], Any]] = {}
    result = made.result
    if result.approximation is not None:
        makers = {"marginals": plot.marginals}
    if result.chained:
        makers |= {"trace": plot.trace, "autocorrelation": plot.autocorrelation}
    makers |= {"coefficients": plot.coefficients, "predictive_check": plot.predictive_check}
    if made.model.design.groupings:
        makers["groups"] = plot.groups
    for name, term in result.structured.items():
        file = "".join(c if c.isalnum() or c in "._-" else "_" for c in name)
        if is_curve(term):
            makers[f"smooth_{file}"] = partial(plot.smooth, name)
            makers[f"smooth_{file}_response"] = partial(plot.smooth, name, scale="response")
        elif term.graph is not None:
            makers[f"areas_{file}"] = partial(plot.areas, name)
    if x is not None:
        makers["exploration"] = lambda: plot.exploration(x)
        makers["bands"] = lambda: plot.bands(x)
    return _save(folder, makers, say)


def _save(folder: Path, makers: dict[str, Callable[[], Any]], say: Say) -> list[Path]:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    written = []
    for name, make in makers.items():
        try:
            figure = make()
        except BayouError as error:
            say(f"No picture {name}: {error}")
            continue
        path = folder / f"{name}.png"
        try:
            figure.savefig(path, dpi=120)
        except OSError as error:
            raise FileError(f"{path} cannot be written: {error.strerror or error}.") from error
        finally:
            pyplot.close(figure)
        written.append(path)
    return written
