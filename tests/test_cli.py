"""The command line: what a newcomer types, what comes back, and where errors go."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from typer.testing import CliRunner

import bayou
import structured_models as models
from bayou import demos
from bayou.cli import app, write_csv
from bayou.demos import DEMOS, SAMPLERS
from bayou.errors import FileError
from bayou.fitting import Fit

CLINIC = "proportion(favorable, patients) ~ treatment + (1 | clinic)"


def invoke(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A clinic file and the folder of its fit, made once."""
    folder = tmp_path_factory.mktemp("cli")
    assert invoke("datasets", "clinic", "--out", folder / "clinic.csv").exit_code == 0
    settings = ("--family", "binomial", "--seed", 3, "--draws", 300, "--out", folder / "out")
    done = invoke("fit", CLINIC, folder / "clinic.csv", *settings)
    assert done.exit_code == 0, done.output
    (folder / "stdout.txt").write_text(done.stdout)
    (folder / "stderr.txt").write_text(done.stderr)
    return folder


def test_help_names_every_command_and_an_example():
    done = invoke("--help")
    assert done.exit_code == 0
    for word in ("fit", "resume", "predict", "compare", "agree", "demo", "datasets", "warmup", "Example"):
        assert word in done.stdout


@pytest.mark.parametrize("command", ["fit", "resume", "predict", "compare", "agree", "demo", "datasets", "warmup"])
def test_every_command_has_help_in_sentences(command):
    done = invoke(command, "--help")
    assert done.exit_code == 0 and "Usage" in done.stdout and "Parameters" not in done.stdout


def test_help_needs_no_heavy_package():
    code = (
        "import sys; from bayou.cli import app; from typer.testing import CliRunner; "
        "CliRunner().invoke(app, ['fit', '--help']); "
        "print([m for m in ('pandas', 'numba', 'xarray', 'formulaic', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_version():
    assert invoke("--version").stdout.strip() == f"bayou {bayou.__version__}"


def test_datasets_lists_describes_and_writes(tmp_path):
    listed = invoke("datasets").stdout
    assert all(name in listed for name in bayou.datasets.names()) and "simulated twin" in listed
    assert "generated with theta" in invoke("datasets", "tumor").stdout
    assert invoke("datasets", "bass", "--out", tmp_path / "bass.csv").exit_code == 0
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "bass.csv"), bayou.datasets.load("bass"))


def test_fit_prints_the_fit_and_writes_everything(folder):
    out = folder / "out"
    made = bayou.load(out / "fit.nc")
    assert (folder / "stdout.txt").read_text().strip() == str(made).strip()
    assert "sd_clinic[Intercept] ~" in (folder / "stderr.txt").read_text()
    summary = pd.read_csv(out / "summary.csv", index_col="parameter")
    assert list(summary.index) == list(made.summary().index)
    for picture in ("trace", "autocorrelation", "coefficients", "groups", "predictive_check"):
        assert (out / f"{picture}.png").stat().st_size > 5000


def test_fit_gives_the_draws_of_the_same_call_from_python(folder):
    made = bayou.fit(CLINIC, folder / "clinic.csv", family="binomial", seed=3, draws=300)
    pd.testing.assert_frame_equal(made.draws(), bayou.load(folder / "out" / "fit.nc").draws())


def test_a_stored_run_is_gone_on_with(folder, tmp_path):
    settings = ("--family", "binomial", "--seed", 3, "--draws", 100, "--store", tmp_path / "run")
    done = invoke("fit", CLINIC, folder / "clinic.csv", *settings)
    assert done.exit_code == 0, done.output
    state = tmp_path / "run" / "chain-2" / "state.bayou"
    state.unlink()  # as if the second chain had never begun to write
    again = invoke("resume", tmp_path / "run", "--out", tmp_path / "out")
    assert again.exit_code == 0, again.output
    estimates = [line for line in done.stdout.splitlines() if "seconds" not in line and " s" not in line]
    assert [line for line in again.stdout.splitlines() if line in estimates] == estimates
    assert (tmp_path / "out" / "fit.nc").exists()
    path = next((tmp_path / "run" / "chain-1").glob("draws-*"))
    path.write_bytes(path.read_bytes()[:-5])
    refused = invoke("resume", tmp_path / "run")
    assert refused.exit_code == 2
    assert "damaged" in refused.stderr and "salvage" in refused.stderr
    assert invoke("resume", tmp_path / "none").exit_code == 2


def test_predict_sets_the_predictions_beside_the_rows(folder, tmp_path):
    done = invoke("predict", folder / "out", folder / "clinic.csv", "--out", tmp_path / "answer.csv")
    assert done.exit_code == 0, done.output
    answer = pd.read_csv(tmp_path / "answer.csv")
    given = pd.read_csv(folder / "clinic.csv")
    pd.testing.assert_frame_equal(answer[given.columns], given)
    assert list(answer.columns[4:]) == ["mean", "sd", "lower", "median", "upper"]
    assert answer["lower"].lt(answer["mean"]).all() and answer["mean"].lt(answer["upper"]).all()


def test_predict_prints_and_takes_new_groups(folder, tmp_path):
    new = tmp_path / "new.csv"
    new.write_text("clinic,treatment,favorable,patients,mean\nnine,drug,0,10,7\n")
    refused = invoke("predict", folder / "out", new)
    assert refused.exit_code == 2 and "nine" in refused.stderr and "groups" in refused.stderr
    done = invoke("predict", folder / "out" / "fit.nc", new, "--groups", "new", "--kind", "outcome")
    assert done.exit_code == 0, done.output
    assert "predicted_mean" in done.stdout and "nine" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fit", "count ~ x + (1 | rat)", "{data}"], ["rat"]),
        (["fit", "favorable ~ treatmnt", "{data}"], ["treatmnt", "treatment"]),
        (["fit", "favorable ~ __import__('os')", "{data}"], ["import"]),
        (["fit", "favorable ~ 1", "{data}", "--family", "poison"], ["poison", "poisson"]),
        (["fit", "favorable ~ 1", "{data}", "--engine", "gibs"], ["gibs", "gibbs"]),
        (["fit", "favorable ~ 1", "nowhere.csv"], ["nowhere.csv"]),
        (["predict", "nowhere", "{data}"], ["nowhere"]),
        (["demo", "tumour"], ["tumour", "tumor"]),
        (["datasets", "tumour"], ["tumour", "tumor"]),
    ],
)
def test_bad_input_goes_to_stderr_with_status_2(folder, tmp_path, arguments, words):
    done = invoke(*(argument.format(data=folder / "clinic.csv") for argument in arguments))
    assert done.exit_code == 2 and done.stdout == ""
    assert done.stderr.startswith("bayou: ") and "Traceback" not in done.stderr
    assert all(word in done.stderr for word in words)


def test_a_folder_that_cannot_be_made_is_named_before_any_sampling(folder):
    inside_a_file = folder / "clinic.csv" / "out"
    done = invoke("fit", CLINIC, folder / "clinic.csv", "--family", "binomial", "--out", inside_a_file)
    assert done.exit_code == 2 and "clinic.csv" in done.stderr and "--out" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("fit", "favorable ~ nothing", "{data}"),
        ("fit", "favorable ~ treatment", "nowhere.csv"),
        ("fit", CLINIC, "{data}", "--family", "binomial", "--engine", "gibbs"),
        ("fit", CLINIC, "{data}", "--family", "binomial", "--engine", "gibs"),
        ("demo", "clinic", "--data", "nowhere.csv"),
        ("predict", "nowhere", "{data}"),
    ],
    ids=["formula", "file", "engine that cannot", "engine", "demo", "predict"],
)
def test_bad_input_leaves_no_file_behind(folder, tmp_path, arguments):
    out = tmp_path / "out"
    done = invoke(*(argument.format(data=folder / "clinic.csv") for argument in arguments), "--out", out)
    assert done.exit_code == 2 and done.stderr.splitlines()[-1].startswith("bayou: "), done.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", DEMOS)
def test_demo_prints_priors_fit_and_where_the_pictures_are(name, tmp_path):
    if DEMOS[name].engine not in bayou.engines.NAMES:
        pytest.skip(f"the engine {DEMOS[name].engine} is not there yet")
    done = invoke("demo", name, "--out", tmp_path, "--draws", 100)
    assert done.exit_code == 0, done.output
    # the fit repeats what its model says: priors are shown once
    assert done.stdout.count("Priors ") == 1 and "bayou fit" in done.stdout and str(tmp_path / name) in done.stdout
    assert "No picture" not in done.stdout
    pictures = {path.stem for path in (tmp_path / name).glob("*.png")}
    assert pictures >= {"coefficients", "predictive_check"}
    assert ("groups" in pictures) == ("|" in DEMOS[name].formula)
    chains = {"trace", "autocorrelation"}
    assert pictures & chains == (chains if DEMOS[name].engine in SAMPLERS else set())
    assert ("chi_squared" in done.stdout) == (name == "range")  # its terms are tested
    assert ("quadrature, 61 nodes" in done.stdout) == (name == "clinic")
    assert ("bands" in pictures) == (DEMOS[name].x is not None)
    assert ("two samplers" in done.stdout) == (name == "tumor")


class StandIn:
    """An engine that returns hand-made draws with densities."""

    def run(self, model, rng):
        return models.approximated(models.posterior(model, draws=100))


@pytest.mark.parametrize(
    ("name", "own"),
    [("rain", {"smooth_day", "smooth_day_response"}), ("counties", {"areas_county"})],
)
def test_demos_of_structured_effects_draw_them_and_tabulate(name, own, tmp_path, monkeypatch):
    monkeypatch.setattr(bayou.engines, "get", lambda *engine, **settings: StandIn())
    said = []
    made = demos.run(name, None, tmp_path, 1, None, said.append)
    pictures = {path.stem for path in (tmp_path / name).glob("*.png")}
    assert pictures == {"marginals", "coefficients", "predictive_check"} | own
    text = "\n".join(said)
    assert "Evidence" in text and "No picture" not in text
    if name == "rain":
        assert "rw2(day, cyclic=True): 12 of 366 values, evenly spaced" in text
    else:
        assert "12 of 56 values, the lowest and the highest" in text
        table = made.structured("county")["mean"]
        assert table.idxmax() in text.split("the lowest and the highest")[1]


def test_a_graph_and_a_matrix_from_files(tmp_path, monkeypatch):
    pd.DataFrame(models.data()).to_csv(tmp_path / "data.csv", index=False)
    pd.DataFrame(models.EDGES, columns=["from", "to"]).to_csv(tmp_path / "W.csv", index=False)
    names, A = models.relationship()
    pd.DataFrame(A, index=names, columns=names).rename_axis("animal").to_csv(tmp_path / "square.csv")
    entries = [(names[i], names[j], A[i, j]) for i in range(4) for j in range(i, 4) if A[i, j]]
    pd.DataFrame(entries, columns=["one", "other", "value"]).to_csv(tmp_path / "list.csv", index=False)
    monkeypatch.setattr(bayou.cli.engines, "get", lambda *engine, **settings: SimpleNamespace(maximises=False))
    fitted = []

    def fit(model, **options):
        fitted.append(model)
        return Fit(models.approximated(models.posterior(model, draws=60)))

    monkeypatch.setattr(bayou, "fit", fit)
    formula = "y ~ x + bym2(area, graph=W) + (1 | animal, covariance=A)"
    for k, file in enumerate(("square.csv", "list.csv")):
        given = ("--structure", f"W={tmp_path / 'W.csv'}", "--structure", f"A={tmp_path / file}")
        out = tmp_path / f"out{k}"
        done = invoke("fit", formula, tmp_path / "data.csv", "--family", "poisson", *given, "--out", out)
        assert done.exit_code == 0, done.output
        assert list(fitted[k].design.structured[1].nodes) == names
        assert (fitted[k].design.structured[1].covariance == A).all()
        assert len(fitted[k].design.structured[0].graph.edges) == 6
        effect = pd.read_csv(out / "effect_area.csv")
        assert list(effect["area"]) == list("abcdef") and {"mean", "lower"} <= set(effect.columns)
        assert "r_hat" not in pd.read_csv(out / "summary.csv").columns
        assert (out / "areas_area.png").exists() and (out / "marginals.png").exists()
    pd.DataFrame({"x": [0.0], "area": ["b"], "animal": ["cid"]}).to_csv(tmp_path / "new.csv", index=False)
    done = invoke("predict", tmp_path / "out1", tmp_path / "new.csv")
    assert done.exit_code == 0 and "cid" in done.stdout


def test_a_graph_that_is_not_given_is_asked_for_in_words_of_the_shell(tmp_path):
    table = tmp_path / "areas.csv"
    table.write_text("y,area\n1,a\n2,b\n3,a\n4,c\n")
    for term in ("icar(area, graph=W)", "icar(area)"):
        found = invoke("fit", f"y ~ 1 + {term}", table)
        assert found.exit_code == 2
        assert "--structure W=FILE" in found.stderr and "structures={" not in found.stderr



@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["W"], ["NAME=FILE"]),
        (["=W.csv"], ["NAME=FILE"]),
        (["W={W}", "W={W}"], ["W", "twice"]),
        (["W={W}", "A={W}"], ["A", "three columns"]),
        (["W={W}"], ["A"]),
        (["W=nowhere.csv", "A={W}"], ["nowhere.csv"]),
    ],
)
def test_structures_that_cannot_be_read(given, words, tmp_path):
    pd.DataFrame(models.data()).to_csv(tmp_path / "data.csv", index=False)
    pd.DataFrame(models.EDGES, columns=["from", "to"]).to_csv(tmp_path / "W.csv", index=False)
    if "nowhere" in given[0]:
        given = given[:1]
    options = [part for text in given for part in ("--structure", text.format(W=tmp_path / "W.csv"))]
    formula = "y ~ bym2(area, graph=W)" + ("" if "nowhere" in given[0] else " + (1 | animal, covariance=A)")
    done = invoke("fit", formula, tmp_path / "data.csv", "--family", "poisson", *options)
    assert done.exit_code == 2 and done.stderr.startswith("bayou: "), done.output
    assert all(word in done.stderr for word in words), done.stderr


def test_a_graph_is_written_to_a_file(tmp_path):
    done = invoke("datasets", "counties", "--graph", tmp_path / "W.csv")
    assert done.exit_code == 0 and "139 edges" in done.stderr
    edges = pd.read_csv(tmp_path / "W.csv")
    graph = bayou.datasets.graph("counties")
    assert edges.to_numpy().tolist() == graph.names[graph.edges].tolist()
    assert invoke("datasets", "clinic", "--graph", tmp_path / "W.csv").exit_code == 2


def test_demo_takes_a_file_of_the_same_columns(tmp_path):
    bayou.datasets.load("bass").query("station < 's06'").to_csv(tmp_path / "mine.csv", index=False)
    done = invoke("demo", "bass", "--data", tmp_path / "mine.csv", "--out", tmp_path, "--draws", 50)
    assert done.exit_code == 0, done.output
    assert "mine.csv" in done.stdout and "station: 5 levels" in done.stdout


def test_warmup_compiles_and_says_where():
    done = invoke("warmup")
    assert done.exit_code == 0 and "Everything is compiled" in done.stdout


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-x", "@SUM(A1)", "\t=1"])
def test_csv_cells_that_a_spreadsheet_would_run_are_guarded(tmp_path, cell):
    frame = pd.DataFrame({cell: [cell, "plain"], "number": [-1.5, 2.0]}, index=[cell, "row"])
    written = pd.read_csv(write_csv(frame, tmp_path / "a.csv", "name"), sep=",")
    assert list(written.columns) == ["name", f"'{cell}", "number"]
    assert written.iloc[0].tolist() == [f"'{cell}", f"'{cell}", -1.5]
    raw = pd.read_csv(write_csv(frame, tmp_path / "b.csv", "name", guard=False))
    assert raw.iloc[0, 0] == cell


def test_csv_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    def half(frame, path, **options):
        Path(path).write_text("half")
        raise OSError(28, "No space left on device")

    old = write_csv(pd.DataFrame({"a": [1]}), tmp_path / "a.csv", None).read_text()
    monkeypatch.setattr(pd.DataFrame, "to_csv", half)
    with pytest.raises(FileError, match="a.csv cannot be written: No space left"):
        write_csv(pd.DataFrame({"a": [2]}), tmp_path / "a.csv", None)
    assert [file.name for file in tmp_path.iterdir()] == ["a.csv"] and (tmp_path / "a.csv").read_text() == old


def test_csv_into_a_missing_folder_is_a_file_error(tmp_path):
    with pytest.raises(FileError, match="no_such_folder"):
        write_csv(pd.DataFrame({"a": [1]}), tmp_path / "no_such_folder" / "a.csv", None)
