"""Formula and data to arrays, against numbers worked out by hand."""

import datetime
import decimal
import subprocess
import sys
import textwrap

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bayou import families
from bayou.design import build
from bayou.design.frames import read
from bayou.errors import DataError, FormulaError, Unsupported
from trial_table import trial_table

gaussian = families.get("gaussian")
poisson = families.get("poisson")


@pytest.fixture
def table() -> pd.DataFrame:
    return trial_table()


class TestFixedPart:
    @pytest.mark.parametrize(
        ("formula", "names"),
        [
            ("y ~ 1", ("Intercept",)),
            ("y ~ 0 + x", ("x",)),
            ("y ~ x * z", ("Intercept", "x", "z", "x:z")),
            ("y ~ arm", ("Intercept", "arm[drug]")),
            ("y ~ 0 + arm", ("arm[control]", "arm[drug]")),
            ("y ~ x:arm", ("Intercept", "x:arm[control]", "x:arm[drug]")),
            ("y ~ x * arm", ("Intercept", "x", "arm[drug]", "x:arm[drug]")),
            ("y ~ g", ("Intercept", "g[b]", "g[c]", "g[d]")),
            ("y ~ C(h)", ("Intercept", "C(h)[9]", "C(h)[10]")),
            ('y ~ C(g, Treatment("c"))', None),
            ('y ~ C(g, reference="c")', None),
            ("y ~ poly(x, 2)", ("Intercept", "poly(x, 2)[1]", "poly(x, 2)[2]")),
            ("y ~ poly(x, 2):arm", None),
            ("y ~ I(x>3) + log(x) + I(x^2)", ("Intercept", "I(x > 3)", "log(x)", "I(x^2)")),
        ],
    )
    def test_names(self, table, formula, names):
        design = build(formula, table, gaussian)
        assert design.X.shape == (24, len(design.coefficients))
        assert design.X.flags["C_CONTIGUOUS"]
        assert len(set(design.coefficients)) == len(design.coefficients)
        if names is not None:
            assert design.coefficients == names

    def test_reference_levels(self, table):
        design = build('y ~ C(g, reference="c")', table, gaussian)
        assert design.coefficients[1:] == tuple(f'C(g, reference="c")[{level}]' for level in "abd")
        np.testing.assert_array_equal(design.X[:, 1], table.g == "a")
        assert 'C(g, reference="c"): reference level c.' in design.notes
        assert build("y ~ arm", table, gaussian).notes == ("arm: reference level control.",)
        table["arm"] = pd.Categorical(table.arm, ["drug", "control", "placebo"])
        design = build("y ~ arm", table, gaussian)
        assert design.coefficients == ("Intercept", "arm[control]")
        assert "arm: 1 unused level dropped (placebo)." in design.notes

    def test_contrasts(self, table):
        sums = build("y ~ C(arm, Sum)", table, gaussian).X[:, 1]
        np.testing.assert_array_equal(sums, np.where(table.arm == "control", 1.0, -1.0))
        helmert = build("y ~ C(g, contr.helmert)", table, gaussian).X
        np.testing.assert_allclose(helmert.sum(axis=0)[1:], 0.0, atol=1e-12)
        levels = build('y ~ 0 + C(arm, levels=["drug", "control"])', table, gaussian)
        np.testing.assert_array_equal(levels.X[:, 0], table.arm == "drug")
        with pytest.raises(FormulaError, match="Did you mean `drug`"):
            build('y ~ C(arm, reference="drg")', table, gaussian)

    def test_arithmetic(self, table):
        x, z = table.x.to_numpy(), table.z.to_numpy()
        cases = {
            "I(x^2 + 2 * z / 3 - 1)": x**2 + 2 * z / 3 - 1,
            "I(-x^2)": -(x**2),
            "I((-x)^2)": x**2,
            "I(2^(x + 1))": 2 ** (x + 1),
            "I(x %% 2)": x % 2,
            "log(x + 1)": np.log(x + 1),
            "I(x > 3)": x > 3,
            'I(arm == "drug")': table.arm == "drug",
            'I(arm != "drug")': table.arm != "drug",
            "exp(sqrt(abs(z)))": np.exp(np.sqrt(np.abs(z))),
            "round(x)": np.round(x),
        }
        for text, expected in cases.items():
            np.testing.assert_allclose(build(f"y ~ 0 + {text}", table, gaussian).X[:, 0], expected, rtol=1e-15)

    def test_interaction_columns(self, table):
        design = build("y ~ x * arm", table, gaussian)
        drug = (table.arm == "drug").to_numpy()
        np.testing.assert_array_equal(design.X[:, 3], table.x * drug)

    def test_booleans_are_two_levels(self, table):
        table["treated"] = table.arm == "drug"
        design = build("y ~ treated + (0 + treated | g)", table, gaussian)
        assert design.coefficients == ("Intercept", "treated[True]")
        assert design.groupings[0].coefficients == ("treated[False]", "treated[True]")

    def test_dates_decimals_and_nullable(self, table):
        table["day"] = [datetime.date(2020, 1, 1) + datetime.timedelta(days=k) for k in range(24)]
        table["money"] = [decimal.Decimal(k) / 4 for k in range(24)]
        table["nullable"] = pd.array(range(24), dtype="Int64")
        design = build("y ~ day + money + nullable", table, gaussian)
        np.testing.assert_array_equal(np.diff(design.X, axis=0), np.tile([0.0, 1.0, 0.25, 1.0], (23, 1)))
        assert "day is a date: it counts in days since 1970-01-01." in design.notes

    @pytest.mark.parametrize(
        "name",
        [
            "body mass",
            "größe",
            "x:z",
            "a~b",
            "Intercept",
            "class",
            "lambda",
            "__x__",
            "TRUE",
            "1x",
            "f(x)",
            "it's",
            "a`b",
            '"',
            "x[1]",
            "f0",
            "L0",
            "np",
            "é\u0301",
            "(weights)",
            " ",
        ],
    )
    def test_any_column_name_in_backquotes(self, table, name):
        quoted = "`" + name.replace("`", "``") + "`"
        table[name] = table.z
        design = build(f"y ~ x + {quoted} + I({quoted}^2) + x:{quoted} + ({quoted} | g)", table, gaussian)
        np.testing.assert_array_equal(design.X[:, 2], table.z)
        np.testing.assert_array_equal(design.X[:, 4], table.x * table.z)
        assert len(set(design.coefficients)) == 5
        again = build(design.formula.text, read(design.data, design.categories), gaussian)
        np.testing.assert_array_equal(again.X, design.X)

    def test_intercept_is_not_mistaken(self, table):
        table["Intercept"] = table.z
        assert build("y ~ `Intercept`", table, gaussian).coefficients == ("Intercept", "`Intercept`")

    @given(st.lists(st.text(max_size=5), min_size=2, max_size=6, unique=True))
    def test_any_levels(self, levels):
        values = (levels * 6)[: 2 * len(levels)]
        data = {"y": np.arange(len(values)) ** 1.5, "f": values, "x": np.arange(len(values)) % 5}
        design = build("y ~ f + x:f + (1 | f)", data, gaussian)
        ordered = sorted(levels)
        assert design.coefficients[1 : len(levels)] == tuple(f"f[{level}]" for level in ordered[1:])
        assert list(design.groupings[0].levels) == ordered
        indicator = np.array([value == ordered[-1] for value in values])
        np.testing.assert_array_equal(design.X[:, len(levels) - 1], indicator)

    def test_own_functions(self, table):
        def spread(x, power=1):
            return np.column_stack([x, x**power])

        design = build("y ~ spread(x, power=3)", table, gaussian, functions={"spread": spread})
        assert design.coefficients[1:] == ("spread(x, power=3)[1]", "spread(x, power=3)[2]")
        np.testing.assert_allclose(design.X[:, 2], table.x**3)
        with pytest.raises(FormulaError, match="your function in `bad\\(x\\)` fails: ZeroDivisionError"):
            build("y ~ bad(x)", table, gaussian, functions={"bad": lambda x: 1 / 0})
        with pytest.raises(FormulaError, match="gives shape \\(3,\\)"):
            build("y ~ bad(x)", table, gaussian, functions={"bad": lambda x: x[:3]})

    def test_caller_variables_are_not_seen(self, table):
        secret = table.x  # noqa: F841
        with pytest.raises(FormulaError, match="no column `secret`"):
            build("y ~ secret", table, gaussian)


class TestOffsetsWeightsSigma:
    def test_offset(self, table):
        design = build("count ~ offset(log(e)) + offset(x)", table, poisson)
        np.testing.assert_allclose(design.offset, np.log(table.e) + table.x)
        assert design.coefficients == ("Intercept",)
        with pytest.raises(DataError, match=r"`log\(e\)` is not a finite number in 2 rows \(row 4, 7.*e = 0"):
            build(
                "count ~ offset(log(e))",
                table.assign(e=table.e.where(~table.index.isin([4, 7]), 0.0)),
                poisson,
            )

    def test_weights(self, table):
        np.testing.assert_array_equal(build("y ~ 1", table, gaussian, weights="e").weights, table.e)
        design = build("y ~ 1", table, gaussian, weights=table.e.to_numpy())
        np.testing.assert_array_equal(design.weights, table.e)
        again = build("y ~ 1", design.data, gaussian, weights=design.weights_column)
        np.testing.assert_array_equal(again.weights, table.e)
        for bad in (0.0, -1.0):
            with pytest.raises(DataError, match="weights `e` must be positive.*row 2"):
                build("y ~ 1", table.assign(e=table.e.where(table.index != 2, bad)), gaussian, weights="e")
        with pytest.raises(DataError, match="missing values: `e`"):
            build("y ~ 1", table.assign(e=table.e.where(table.index != 2)), gaussian, weights="e")
        with pytest.raises(DataError, match="shape"):
            build("y ~ 1", table, gaussian, weights=[1.0, 2.0])
        with pytest.raises(FormulaError, match="no column `ee`.*Did you mean `e`"):
            build("y ~ 1", table, gaussian, weights="ee")

    def test_sigma_by(self, table):
        design = build("y ~ 1", table, gaussian, sigma_by="g")
        np.testing.assert_array_equal(design.sigma_levels[design.sigma_codes], table.g)
        assert len(build("y ~ 1", table, gaussian, sigma_by="g:arm").sigma_levels) == 8
        assert len(build("y ~ 1", table, gaussian).sigma_levels) == 1
        with pytest.raises(Unsupported, match="no dispersion"):
            build("count ~ 1", table, poisson, sigma_by="g")
        with pytest.raises(FormulaError, match="no column `gg`"):
            build("y ~ 1", table, gaussian, sigma_by="gg")


def test_real_data(shared):
    formula = "count ~ poly(x, 4, raw=True) + (poly(x, 4, raw=True) | mouse)"
    tumour = build(formula, shared / "data" / "hoff_tumor_long.csv", poisson)
    assert tumour.X.shape == (420, 5)
    assert tumour.y.sum() == 1343
    assert len(tumour.groupings[0].levels) == 21
    sleep = build("Reaction ~ Days + (Days | Subject)", shared / "data" / "sleepstudy.csv", gaussian)
    assert (sleep.n, len(sleep.groupings[0].levels)) == (180, 18)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the peak memory from /proc")
def test_a_million_rows():
    """Formula to design in under 2 s and 1 GB; the bounds here are loose, for a busy machine."""
    code = textwrap.dedent(
        """
        import time
        import numpy as np
        import pandas as pd
        from bayou import families
        from bayou.design import build

        rng = np.random.default_rng(1)
        n = 1_000_000
        data = pd.DataFrame(
            {"y": rng.normal(size=n), "x": rng.normal(size=n), "g": rng.integers(0, 100_000, n)}
        )
        family = families.get("gaussian")
        build("y ~ x + (1 | g)", data[:10], family)
        start = time.perf_counter()
        design = build("y ~ x + (x | g)", data, family)
        seconds = time.perf_counter() - start
        assert len(design.groupings[0].levels) > 99_000
        # the peak of this process alone: resource.getrusage would count that of the one it was forked from
        with open("/proc/self/status") as status:
            peak = next(line.split()[1] for line in status if line.startswith("VmHWM"))
        print(seconds, int(peak) / 2**20)
        """
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seconds, gigabytes = map(float, out.stdout.split())
    assert gigabytes < 1.0
    assert seconds < 6.0
