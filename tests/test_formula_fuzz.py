"""The parser under random strings: a formula or a `FormulaError`, at once, and no side effect whatever.

In a process of its own, since an audit hook cannot be taken away again.
"""

import subprocess
import sys
import textwrap

import pytest

SCRIPT = """
    import random, sys, time
    from bayou.errors import FormulaError, UnsafeFormula
    from bayou.formula import known_functions, parse

    random.seed({seed})
    NAMES = ["y", "x", "g", "a.b", "_x", "`body mass`", "`", "é", "class", "lambda", "None", "True", "__import__", "os",
             "__class__", "exec", "eval", "open", "I", "C", "poly", "bs", "log", "scale", "center", "offset",
             "proportion", "cbind", "measured", "rw1", "seasonal", "s", "bym2", "graph", "by", "period", "cyclic", "covariance", "treatment", "np.exp", "x.__class__.__base__", "{{x}}"]
    SIGNS = ["~", "~~", "+", "-", "*", "/", ":", "^", "**", "%in%", "|", "||", "(", ")", "((", "))", "[", "]", ",", "=",
             "==", ";", "@", "!", "<", ">", "&", "#", "\\\\", "\\n", "\\t", "\\0", "\\u202e", "\\ud800", " ", "  ", "$", "%", "..", "."]
    VALUES = ["0", "1", "-1", "2", "1e308", "1e999", "0x1f", "1_000", "'a'", "\\"b\\"", "'", "\\"", "[1, 2]", "c(1, 2)", "9" * 30,
              "'__import__(\\"os\\").system(\\"true\\")'", "f'{{x}}'", "b''", "1j"]
    GOOD = ["y ~ x + (x | g)", "proportion(y, n) ~ poly(x, 2) * z + (1 + z || g/h) + offset(log(e))",
            "log(y) ~ center(x, by=g) + bs(x, df=5) + (0 + x | a:b)", "cbind(s, f) ~ C(period, reference='b') - 1",
            "measured(y, se) ~ I(x^2) + `odd name` + (1 | g)",
            "y ~ rw2(t, by=g, cyclic=TRUE, period=366) + s(x, basis=9, degree=2) + seasonal(t, period=12)",
            "y ~ bym2(area, graph=W, scale=F) + leroux(C(area), graph=`a b`) + (1 | animal, covariance=A, by=g:h)"]


    def text():
        kind = random.random()
        if kind < 0.45:
            pieces = [random.choice(random.choice((NAMES, SIGNS, SIGNS, VALUES))) for _ in range(random.randrange(14))]
            return random.choice(("", "y ~ ", "y ~ x + ")) + random.choice(("", " ")).join(pieces)
        if kind < 0.9:  # a good one with a few wounds
            s = list(random.choice(GOOD))
            for _ in range(random.randrange(1, 5)):
                at = random.randrange(len(s) + 1)
                wound = random.choice((NAMES, SIGNS, VALUES))
                s[at:at + random.randrange(4)] = random.choice(wound)
            return "".join(s)
        if kind < 0.97:
            return "".join(chr(random.choice((random.randrange(128), random.randrange(0x11000)))) for _ in range(30))
        piece = random.choice(("(", "x+", "-", "a**", "log(", "(1|", "x:", "[", "`", "I(", "~", "x*", "%in%", "9"))
        return "y ~ " + piece * random.choice((50, 99, 101, 1000, 4000, 20000))


    parse("y ~ x + (x | g)")
    events = []
    armed = False


    def hook(name, arguments):
        if armed and name.split(".")[0] in ("open", "exec", "compile", "import", "subprocess", "os", "socket", "ctypes",
                                            "code", "pickle", "marshal", "shutil", "tempfile", "urllib", "sys"):
            if name != "sys._getframe":
                events.append((name, str(arguments)[:80]))


    sys.addaudithook(hook)
    good = refused = unsafe = 0
    slowest = 0.0
    trouble = []
    for i in range({count}):
        s = text()
        armed = True
        began = time.perf_counter()
        try:
            parse(s)
            good += 1
        except UnsafeFormula:
            unsafe += 1
        except FormulaError as error:
            refused += 1
            if not str(error).strip():
                trouble.append((s, "an empty message"))
        except BaseException as error:
            trouble.append((s, repr(error)))
        armed = False
        slowest = max(slowest, time.perf_counter() - began)
    print(good, refused, unsafe, slowest)
    for s, what in trouble[:5]:
        print("TROUBLE", ascii(s[:200]), what[:300])
    for event in events[:5]:
        print("EVENT", event)
"""


def run(count: int, seed: int) -> None:
    script = textwrap.dedent(SCRIPT).format(count=count, seed=seed)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    first, *rest = done.stdout.splitlines()
    assert not rest, "\n".join(rest)
    good, refused, unsafe, slowest = first.split()
    # the strings reach every answer, and none takes long
    assert min(int(good), int(refused), int(unsafe)) > count / 200
    assert float(slowest) < 1.0


def test_twenty_thousand_strings() -> None:
    run(20_000, 1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 12))
def test_a_million_strings(seed: int) -> None:
    run(100_000, seed)
