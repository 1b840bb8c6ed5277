"""The command line: bayou fit, resume, predict, compare, agree, plan, demo, datasets, warmup."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import bayou
from bayou import engines
from bayou.demos import DEMOS, folder_for, save_pictures
from bayou.errors import BayouError
from bayou.shell.files import read_given, write_csv

__all__ = ["app", "main", "write_csv"]


class _Commands(TyperGroup):
    """Turns bad input into one message on stderr and exit status 2."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BayouError as error:
            said = re.sub(r"structures=\{'(\w+)': [^}]*\}", r"--structure \1=FILE", str(error))
            typer.echo(f"bayou: {said}", err=True)
            raise typer.Exit(2) from error


app = typer.Typer(
    cls=_Commands,
    name="bayou",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Bayesian mixed models from one formula. Try `bayou demo clinic` first.",
    epilog="Example: bayou datasets clinic --out clinic.csv, then bayou fit "
    '"proportion(favorable, patients) ~ treatment + (1 | clinic)" clinic.csv --family binomial --out result, '
    "then bayou predict result clinic.csv.",
)

Seed = Annotated[int, typer.Option(min=0, help="The same seed gives the same draws.")]
Along = Annotated[str | None, typer.Option("--x", help="Column along which to draw predictions.")]
Out = Annotated[
    Path | None, typer.Option(help="Folder for fit.nc, summary.csv and pictures; without it nothing is kept.")
]
Family = Annotated[str, typer.Option(help="gaussian, bernoulli, binomial, poisson, negative_binomial or gamma.")]
Structure = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=FILE",
        help="A graph, covariance or precision that the formula names: a .csv of pairs (with a third column for "
        "weights or entries), or of a labelled square matrix. May be given several times.",
    ),
]
Formula = Annotated[str, typer.Argument(help='In quotes, such as "y ~ x + (1 + x | group)".')]
Data = Annotated[Path, typer.Argument(help="A .csv, .tsv or .parquet file with named columns.")]
Weights = Annotated[str | None, typer.Option(help="Column of prior weights.")]
SigmaBy = Annotated[str | None, typer.Option(help="Column with one residual sd per level.")]
Missing = Annotated[str, typer.Option(help="Rows with missing values: error or drop.")]
Guard = Annotated[bool, typer.Option(help="Put ' before cells that a spreadsheet would take for formulas.")]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"bayou {bayou.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Take the options that stand before the commands."""


@app.command()
def fit(
    formula: Formula,
    data: Data,
    family: Family = "gaussian",
    engine: Annotated[str, typer.Option(help=f"One of {', '.join(engines.NAMES)}.")] = "auto",
    seed: Seed = 1,
    draws: Annotated[int | None, typer.Option(min=1, help="Draws kept per chain.")] = None,
    warmup: Annotated[int | None, typer.Option(min=0, help="Scans before the first kept draw.")] = None,
    chains: Annotated[int | None, typer.Option(min=1, help="Independent chains.")] = None,
    thin: Annotated[int | None, typer.Option(min=1, help="Scans for each kept draw.")] = None,
    cores: Annotated[int | None, typer.Option(min=1, help="Threads; they do not change the draws.")] = None,
    weights: Weights = None,
    sigma_by: SigmaBy = None,
    missing: Missing = "error",
    structure: Structure = None,
    store: Annotated[
        Path | None, typer.Option(help="Folder to stream the draws to; `bayou resume` goes on with what is there.")
    ] = None,
    x: Along = None,
    out: Out = None,
    guard: Guard = True,
) -> None:
    """Fit a model to a file and print what was found.

    The model and its priors are shown first (on stderr), the estimates after the fit (on stdout).
    """
    from bayou.fitting.report import describe_model

    given = {"draws": draws, "warmup": warmup, "chains": chains, "thin": thin, "cores": cores, "store": store}
    chosen = engines.get(engine, **{name: value for name, value in given.items() if value is not None})
    model = bayou.Model(
        formula,
        data,
        family,
        weights=weights,
        sigma_by=sigma_by,
        missing=missing,
        structures=read_given(formula, structure or []) or None,
    )
    # after what bad input stops, and before the sampling, whose result must have a place
    fresh = out is not None and not out.exists()
    folder = folder_for(out) if out is not None else None
    _note(describe_model(model, model.priors_given or not chosen.maximises) + "\n")
    try:
        made = bayou.fit(model, engine=chosen, seed=seed)
    except BayouError:
        if fresh and folder is not None:
            folder.rmdir()
        raise
    _keep(made, folder, x, guard)


@app.command()
def resume(
    store: Annotated[Path, typer.Argument(help="The folder that was given to `bayou fit --store`.")],
    cores: Annotated[int | None, typer.Option(min=1, help="Threads; they do not change the draws.")] = None,
    damaged: Annotated[
        bool, typer.Option("--salvage", help="Do not go on: return the draws that can be read.")
    ] = False,
    x: Along = None,
    out: Out = None,
    guard: Guard = True,
) -> None:
    """Go on with a run that was killed or interrupted, to the draws that it would have made."""
    made = bayou.salvage(store) if damaged else bayou.resume(store, cores=cores)
    _keep(made, folder_for(out) if out is not None else None, x, guard)


def _keep(made: bayou.Fit, folder: Path | None, x: str | None, guard: bool) -> None:
    """Print a fit, and write it with its summary and pictures if there is a folder."""
    typer.echo(str(made))
    if folder is None:
        return
    files = [made.save(folder / "fit.nc")]
    summary = made.summary()
    if not made.result.chained:
        summary = summary.dropna(axis=1, how="all")  # there are no chains, and so no diagnostics of them
    for name in made.result.structured:
        safe = "".join(c if c.isalnum() or c in "._-" else "_" for c in name)
        files.append(write_csv(made.structured(name).reset_index(), folder / f"effect_{safe}.csv", None, guard))
    files += [write_csv(summary, folder / "summary.csv", "parameter", guard)]
    files += save_pictures(made, folder, x, _note)
    _note(f"\nWrote {', '.join(file.name for file in files)} to {folder}")


@app.command()
def predict(
    folder: Annotated[Path, typer.Argument(help="The folder that `bayou fit --out` wrote, or its fit.nc.")],
    data: Annotated[Path, typer.Argument(help="A file with the rows to predict.")],
    kind: Annotated[str, typer.Option(help="mean, linear (the linear predictor) or outcome.")] = "mean",
    groups: Annotated[
        str,
        typer.Option(
            help="observed: the groups that were fitted; new: groups never seen; "
            "population: the typical group; marginal: the average over groups."
        ),
    ] = "observed",
    interval: Annotated[float, typer.Option(help="Probability between lower and upper.")] = 0.95,
    seed: Seed = 1,
    out: Annotated[Path | None, typer.Option(help="A .csv file to write, instead of printing.")] = None,
    guard: Guard = True,
) -> None:
    """Predict the rows of a file from a fit that was kept.

    Each row comes back with the mean, sd, lower, median and upper of its prediction.
    """
    import pandas as pd

    from bayou.design import frames

    made = bayou.load(folder / "fit.nc" if folder.is_dir() else folder)
    rows = frames.read(data)
    options: dict[str, Any] = {"kind": kind, "groups": groups, "interval": interval, "seed": seed}
    answer: Any = made.predict(rows, **options)
    for note in answer.attrs.get("notes", ()):
        _note(note)
    taken = {name: f"predicted_{name}" for name in answer.columns if name in rows}
    given = pd.DataFrame({name: rows[name].labels() for name in rows.names})
    table = pd.concat([given, answer.reset_index(drop=True).rename(columns=taken)], axis=1)
    if out is None:
        typer.echo(table.to_string(index=False, float_format=lambda value: f"{value:.4g}"))
    else:
        _note(f"Wrote {len(table):,} rows to {write_csv(table, out, None, guard)}")


@app.command()
def compare(
    folders: Annotated[list[Path], typer.Argument(help="Folders that `bayou fit --out` wrote, or their fit.nc.")],
    names: Annotated[str | None, typer.Option(help="What to call the fits, with commas between.")] = None,
    bootstrap: Annotated[int, typer.Option(min=0, help="Of likelihood fits: responses simulated for each test.")] = 0,
    seed: Seed = 1,
    out: Annotated[Path | None, typer.Option(help="A .csv file to write, beside printing.")] = None,
    guard: Guard = True,
) -> None:
    """Compare fits of the same data that were kept: by leave-one-out, or by their likelihoods."""
    from bayou.shell.beside import compared

    table, notes = compared(folders, names, bootstrap, seed)
    typer.echo(table.to_string(float_format=lambda value: f"{value:.4g}"))
    for note in notes:
        _note(note)
    if out is not None:
        _note(f"Wrote {len(table):,} rows to {write_csv(table, out, 'fit', guard)}")


@app.command()
def agree(
    formula: Formula,
    data: Data,
    family: Family = "gaussian",
    engine: Annotated[
        list[str] | None,
        typer.Option(help="An engine; given twice or more. Without it all that give a posterior."),
    ] = None,
    seed: Seed = 1,
    draws: Annotated[int | None, typer.Option(min=1, help="Draws kept per chain.")] = None,
    warmup: Annotated[int | None, typer.Option(min=0, help="Scans before the first kept draw.")] = None,
    groups: Annotated[bool, typer.Option(help="Compare the coefficients of every group too.")] = False,
    weights: Weights = None,
    sigma_by: SigmaBy = None,
    missing: Missing = "error",
    structure: Structure = None,
    out: Annotated[Path | None, typer.Option(help="Folder for agreement.csv and agreement.png.")] = None,
    guard: Guard = True,
) -> None:
    """Fit a model by several engines and say whether they find the same posterior.

    The exit status is 1 where they do not.
    """
    from bayou.shell.beside import everyone

    model = bayou.Model(
        formula, data, family, weights=weights, sigma_by=sigma_by, missing=missing,
        structures=read_given(formula, structure or []) or None,
    )  # fmt: skip
    given = {"draws": draws, "warmup": warmup}
    settings: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    found = bayou.agreement(model, engine or everyone(), seed=seed, groups=groups, **settings)
    typer.echo(str(found))
    if out is not None:
        folder = folder_for(out)
        write_csv(found.table.reset_index(), folder / "agreement.csv", None, guard)
        files = ["agreement.csv"]
        if len(found.results) > 1:
            found.plot(save=folder / "agreement.png")
            files.append("agreement.png")
        _note(f"\nWrote {', '.join(files)} to {folder}")
    if not found.ok:
        raise typer.Exit(1)


@app.command()
def plan(
    formula: Formula,
    data: Annotated[Path, typer.Argument(help="A table, or Parquet files: a file, a folder, a pattern in quotes.")],
    family: Family = "gaussian",
    rows: Annotated[float | None, typer.Option(min=1, help="Count with so many rows, such as 1e10.")] = None,
    level: Annotated[
        list[str] | None, typer.Option(metavar="GROUP=NUMBER", help="Count with so many levels of a group.")
    ] = None,
    memory: Annotated[float | None, typer.Option(min=0.1, help="GB of each machine; by default those of this.")] = None,
    cores: Annotated[int | None, typer.Option(min=1, help="Cores of each machine; by default those of this.")] = None,
    draws: Annotated[int, typer.Option(min=1, help="Draws of each chain.")] = 2000,
    chains: Annotated[int, typer.Option(min=1, help="Independent chains.")] = 4,
    weights: Weights = None,
    sigma_by: SigmaBy = None,
    structure: Structure = None,
) -> None:
    """Tell rows, groups, memory and seconds of a fit before anything runs, and the cheapest way to run it."""
    from bayou.shell.files import counts

    told = bayou.plan(
        formula, data, family, weights=weights, sigma_by=sigma_by, rows=rows, levels=counts(level or []),
        memory=memory, cores=cores, draws=draws, chains=chains, structures=read_given(formula, structure or []) or None,
    )  # fmt: skip
    typer.echo(str(told))


@app.command()
def demo(
    name: Annotated[str, typer.Argument(help=f"One of {', '.join(DEMOS)}.")] = "clinic",
    data: Annotated[
        Path | None, typer.Option(help="Your own file with the same columns, in place of the built-in data.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the pictures.")] = Path("demo"),
    seed: Seed = 1,
    draws: Annotated[int | None, typer.Option(min=1, help="Draws kept per chain.")] = None,
) -> None:
    """Show a whole analysis: the model, its fit, and pictures of both."""
    from bayou import demos

    demos.run(name, data, out, seed, draws, typer.echo)


@app.command()
def datasets(
    name: Annotated[str | None, typer.Argument(help="A data set; without it all are listed.")] = None,
    out: Annotated[Path | None, typer.Option(help="A .csv file to write the data to.")] = None,
    graph: Annotated[
        Path | None, typer.Option(help="A .csv file to write the graph to, of data that have one.")
    ] = None,
) -> None:
    """List the built-in data, describe one, or write it to a file."""
    import pandas as pd

    from bayou import datasets

    if name is None:
        for known in datasets.names():
            about = datasets.describe(known)
            typer.echo(f"{known:<9}{about.title} ({'simulated twin' if about.simulated else 'real data'})")
        return
    typer.echo(str(datasets.describe(name)))
    frame = datasets.load(name)
    if out is None:
        typer.echo(f"\nThe first 8 of {len(frame):,} rows:\n{frame.head(8).to_string(index=False)}")
    else:
        _note(f"Wrote {len(frame):,} rows to {write_csv(frame, out, None)}")
    if graph is not None:
        borders = datasets.graph(name)
        pairs = borders.names[borders.edges]
        edges = pd.DataFrame({"from": pairs[:, 0], "to": pairs[:, 1]})
        _note(f"Wrote {len(edges):,} edges to {write_csv(edges, graph, None)}")


@app.command()
def warmup() -> None:
    """Compile everything ahead, so that the first fit on this machine starts at once."""
    import time

    from bayou import datasets, demos
    from bayou.jit import cache_folder

    started = time.perf_counter()
    short: dict[str, Any] = {"draws": 4, "warmup": 4, "chains": 1, "progress": False}
    gibbs = ("collapsed", "blocked", "marginal", "centered", "uncentered")
    ways = [("school", "gibbs", {"parameterization": way}) for way in gibbs]
    ways += [("clinic", "metropolis", {"proposal": way}) for way in ("laplace", "random_walk")]
    ways.append(("clinic", "nuts", {}))
    for name, engine, way in ways:
        show = demos.DEMOS[name]
        settings = engines.get(engine, **short, **way)
        bayou.fit(show.formula, datasets.load(name), show.family, engine=settings, seed=1)
    where = cache_folder()
    kept = f"kept in {where}" if where is not None else "not kept: no folder could be written"
    typer.echo(f"Everything is compiled ({time.perf_counter() - started:.1f} s), {kept}.")


def _note(text: str) -> None:
    """Say something that is not the answer itself."""
    typer.echo(text, err=True)


def main() -> None:
    """Run the command line."""
    app(prog_name="bayou")


if __name__ == "__main__":
    main()
