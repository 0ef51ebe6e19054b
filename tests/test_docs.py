"""The study guide: its pages show the code that is imported, and check its gradients."""

import ast
import functools
import http.server
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
import threading
import types
from pathlib import Path

import pytest

import mfcore
from mfcore.metrics.table import METRICS
from mfcore.models.registry import ABILITIES, MODELS

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PATH = sorted((DOCS / "path").glob("*.md"))
PAGES = sorted(DOCS.glob("*.md")) + PATH
BUILT = Path(os.environ.get("MFCORE_GUIDE", DOCS / "_build"))
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser",
                                                "google-chrome"))), None)
CODE = re.compile(r"```\{code-cell\}[^\n]*\n((?::[^\n]*\n)*)(.*?)```", re.S)
SHORT = 2          # letters of a name that is a symbol
PLAIN = {"np", "sp", "_", "lo", "hi", "AD", "FT", "NU", "rz"}     # no symbols of a formula


def cells(page):
    return [(options, code) for options, code in CODE.findall(page.read_text(encoding="utf-8"))]


def shown(page):
    return re.findall(r"```\{shown\} (\S+)", page.read_text(encoding="utf-8"))


# ------------------------------------------------------------------------- the sources

@pytest.mark.parametrize("page", PATH, ids=lambda page: page.stem)
def test_a_page_of_the_path_has_formula_code_check_experiment_and_two_exercises(page):
    text = page.read_text(encoding="utf-8")
    assert len(shown(page)) >= 2
    assert "$$" in text
    checks = [code for _, code in cells(page) if "assert" in code and "check" in code
              or "np.allclose" in code]
    assert checks
    assert sum("hide-cell" in options for options, _ in cells(page)) == 2
    assert "## An experiment" in text


@pytest.mark.parametrize("page", [page for page in PAGES if shown(page)],
                         ids=lambda page: page.stem)
def test_what_a_page_shows_is_what_is_imported(page, monkeypatch):
    pytest.importorskip("sphinx", reason="needs sphinx")
    monkeypatch.syspath_prepend(DOCS / "_lib")
    from shown import text_of

    for name in shown(page):
        text, place = text_of(name)
        source = (Path(mfcore.__file__).parents[1] / place.split(",")[0]).read_text()
        assert all(line.strip() in source for line in text.splitlines())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_no_formula_has_a_command_that_is_not_known(page):
    convert = pytest.importorskip("latex2mathml.converter", reason="needs latex2mathml").convert
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.S)
    for formula in re.findall(r"\$\$(.+?)\$\$|(?<!\$)\$([^$\n]+)\$(?!\$)", text, re.S):
        assert "\\" not in convert("".join(formula)), formula


def test_a_name_that_is_gone_is_an_error(monkeypatch):
    pytest.importorskip("sphinx", reason="needs sphinx")
    monkeypatch.syspath_prepend(DOCS / "_lib")
    from shown import text_of

    with pytest.raises(AttributeError, match="no_such"):
        text_of("mfcore.solvers.als.no_such")


def test_a_claim_shows_its_figure_and_says_what_is_on_it(monkeypatch):
    pytest.importorskip("sphinx", reason="needs sphinx")
    monkeypatch.syspath_prepend(DOCS / "_lib")
    import claims

    for page in PAGES:
        for name in re.findall(r"```\{claim\} (\S+)", page.read_text(encoding="utf-8")):
            result = json.loads((claims.RESULTS / f"{name}.json").read_text())
            assert (claims.RESULTS / f"{name}_decisive.svg").exists()
            assert all(row["says"] in claims.said(result) for row in result["comparisons"]
                       if row["decides"])


def test_the_page_of_the_study_holds_every_claim_with_its_figure(monkeypatch):
    pytest.importorskip("sphinx", reason="needs sphinx")
    monkeypatch.syspath_prepend(DOCS / "_lib")
    import claims

    source = [(DOCS / "results" / "claims.md").read_text(encoding="utf-8")]
    claims.study(types.SimpleNamespace(srcdir=str(DOCS)), claims.PAGE, source)
    names = [result["claim"] for result in claims.report.results()]
    assert len(names) == 13
    for name in names:
        assert f"(claim-{name})=" in source[0]
        assert f"](#claim-{name})" in source[0]
        assert f"claims/{name}.svg" in source[0]


def test_every_small_model_is_shown_whole_by_a_page():
    included = "".join(page.read_text(encoding="utf-8") for page in PATH)
    for path in sorted((DOCS / "small").glob("*.py")):
        assert f"{{literalinclude}} ../small/{path.name}" in included, path.name


def test_the_table_of_models_says_what_the_registry_says(monkeypatch):
    monkeypatch.syspath_prepend(DOCS / "_lib")
    import registered

    head, _, *lines = registered.abilities().splitlines()
    cells = [line.strip("| ").split(" | ") for line in (head, *lines)]
    table = {row[0].strip("`"): dict(zip(cells[0], row, strict=True)) for row in cells[1:]}
    assert list(table) == list(MODELS)
    for name, entry in MODELS.items():
        told = table[name]
        assert told["`--model`"] == f"`{entry.command}`"
        assert told["`predict` returns"] == entry.predicts
        for ability, text in ABILITIES.items():
            assert told[text] == {"no": "–"}.get(entry.answer(ability), entry.answer(ability))


def test_the_table_of_metrics_says_what_the_library_says(monkeypatch):
    monkeypatch.syspath_prepend(DOCS / "_lib")
    import registered

    head, _, *lines = registered.metrics().splitlines()
    rows = [re.split(r"(?<!\\) \| ", line.removeprefix("| ").removesuffix(" |")) for line in lines]
    assert head.startswith("| metric | formula |")
    assert [row[0].strip("`") for row in rows] == list(METRICS)
    for row, kind in zip(rows, METRICS.values(), strict=True):
        assert len(row) == 6
        assert row[1].replace("\\", "") == kind.formula
        assert row[3] == (kind.better or "–")
    assert "```{metrics}" in (DOCS / "metrics.md").read_text(encoding="utf-8")


def test_pages_list_the_public_models_by_the_registry_alone():
    assert "```{abilities}" in (DOCS / "models.md").read_text(encoding="utf-8")
    reference = (DOCS / "reference.md").read_text(encoding="utf-8")
    assert "```{models}" in reference
    assert not [name for name in MODELS if f"mfcore.{name}" in reference]
    assert '"registered"' in (DOCS / "conf.py").read_text(encoding="utf-8")


def test_no_page_copies_code_of_the_library():
    bodies = [ast.unparse(part) for path in (ROOT / "mfcore").rglob("*.py")
              for part in ast.parse(path.read_text(encoding="utf-8")).body
              if isinstance(part, ast.FunctionDef)]
    for page in PAGES:
        for _, code in cells(page):
            for part in ast.parse(code).body:
                if isinstance(part, ast.FunctionDef):
                    assert ast.unparse(part) not in bodies, (page, part.name)


def test_the_glossary_holds_the_names_of_the_objectives():
    rows = re.findall(r"^\| (.*?) \| (.*?) \| ", (DOCS / "glossary.md").read_text(), re.M)
    listed = {name for _, names in rows for name in re.findall(r"`(\w+)`", names)}
    used = set()
    for path in (ROOT / "mfcore" / "objectives").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.Name, ast.arg)):
                used.add(node.id if isinstance(node, ast.Name) else node.arg)
    symbols = {name for name in used if len(name) <= SHORT} - PLAIN
    assert symbols <= listed
    assert {"beta", "gamma", "tau", "lam"} & used <= listed


# ---------------------------------------------------------------------- the docstrings

# What a class supplies to the frame of all models is described once, in `Estimator`.
SUPPLIED = {"check", "check_grown", "check_size", "begin", "answers", "lacks", "n_steps",
            "unaware"}
METHODS = types.FunctionType, types.MethodType


def public():
    """Public names, and the public methods of the classes among them."""
    for name in mfcore.__all__:
        value = getattr(mfcore, name)
        if callable(value):
            yield f"mfcore.{name}"
            if isinstance(value, type):
                yield from (f"mfcore.{name}.{method}" for method in vars(value)
                            if not method.startswith("_") and method not in SUPPLIED
                            and isinstance(getattr(value, method), METHODS))


# No docstring, no summary; a summary in the third person; a parameter left out, that is none,
# out of order, without a type or a description; a result without one.
HELD = ("GL08", "SS01", "SS05", "PR01", "PR02", "PR03", "PR04", "PR07", "RT03")
ELSEWHERE = re.compile(r"see `[\w.]+`|Return what `[\w.]+` does|Raise NotImplementedError")


def faults(name):
    """What numpydoc finds in a docstring, by code; a parameter that is there "as in" another
    name is looked for in that one's docstring."""
    validate = pytest.importorskip("numpydoc.validate", reason="needs numpydoc").validate
    found = {}
    for code, text in validate(name)["errors"]:
        found.setdefault(code, []).append(text)
    text = inspect.getdoc(functools.reduce(getattr, name.split(".")[1:], mfcore)) or ""
    if ELSEWHERE.search(text.partition("Parameters\n")[0]):
        found.pop("PR01", None)
    untyped = {re.search('"(.*?)"', text).group(1) for text in found.pop("PR04", [])}
    left = untyped - said_elsewhere(text)
    return {**found, **({"PR04": left} if left else {})}


def said_elsewhere(text):
    """Names of parameters that an entry "As in `X`" refers to X, which has them with a type."""
    said = set()
    for names, where in re.findall(r"^([\w*, ]+)\n    As in `([\w.]+)`", text, re.M):
        names = re.split(r",\s*", names)
        theirs = inspect.getdoc(functools.reduce(getattr, where.split("."), mfcore))
        entries = {part for line in re.findall(r"^([\w*, ]+) : ", theirs, re.M)
                   for part in re.split(r",\s*", line)}
        said |= {each for each in names if each in entries | said_elsewhere(theirs)}
    return said


def test_a_public_docstring_says_what_goes_in():
    assert len(list(public())) > 40
    complaints = {(name, code): found[code] for name in public() for found in [faults(name)]
                  for code in HELD if code in found}
    assert complaints == {}


def says_what_comes_out(name):
    validate = pytest.importorskip("numpydoc.validate", reason="needs numpydoc").validate
    found = validate(name)
    summary = found["docstring"].partition("\n\n")[0]
    said = re.match(r"(Return|Raise|Build)\b", summary) or "return self" in summary
    return said or "RT01" not in dict(found["errors"])


def test_a_public_docstring_says_what_comes_out():
    assert [name for name in public() if not says_what_comes_out(name)] == []


def raised_in_silence(name):
    """Errors that a public function raises and its docstring does not name."""
    value = functools.reduce(getattr, name.split(".")[1:], mfcore)
    if isinstance(value, type):
        return set()
    tree = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(value))))
    raised = {ast.unparse(getattr(part.exc, "func", part.exc)).rpartition(".")[2]
              for part in ast.walk(tree) if isinstance(part, ast.Raise) and part.exc}
    return {kind for kind in raised if kind not in inspect.getdoc(value)}


def test_a_public_docstring_names_what_the_body_raises():
    assert [(name, kind) for name in public() for kind in raised_in_silence(name)] == []


# ----------------------------------------------------------------------- what was built

@pytest.fixture(scope="module")
def built():
    if not (BUILT / "index.html").exists():
        pytest.skip("the guide is not built: python -m sphinx -W docs docs/_build")
    return BUILT


def test_the_built_pages_hold_every_public_model(built):
    table = (built / "models.html").read_text(encoding="utf-8")
    for name in MODELS:
        page = built / "reference" / f"{name}.html"
        assert f">{name}<" in table
        assert f'id="mfcore.{name}"' in page.read_text(encoding="utf-8")


def test_every_notebook_of_the_gallery_has_its_picture_and_no_error(built):
    page = (built / "examples" / "index.html").read_text(encoding="utf-8")
    for path in (DOCS / "examples").glob("*.ipynb"):
        assert re.search(rf'href="{path.stem}.html"><img alt="[^"]+" ', page), path.stem
        executed = (built / "examples" / f"{path.stem}.html").read_text(encoding="utf-8")
        assert "Traceback" not in executed
        assert 'class="output' in executed


def test_no_page_of_the_reference_is_over_100_kilobytes(built):
    sizes = {page.name: page.stat().st_size for page in (built / "reference").glob("*.html")}
    assert len(sizes) > len(MODELS)
    assert {name: size for name, size in sizes.items() if size > 100_000} == {}


def test_nothing_is_asked_of_another_host(built):
    for page in built.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        for tag in re.findall(r"<(?:link|script|img|iframe|source)\b[^>]*>", text):
            assert not re.search(r"""(?:href|src)=["'](?:https?:)?//""", tag), (page, tag)
    for sheet in built.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(?:https?:)?//", sheet.read_text(encoding="utf-8"))


def test_no_link_within_the_guide_is_broken(built):
    for page in built.rglob("*.html"):
        for target in re.findall(r'href="([^"#:?]+\.html)', page.read_text(encoding="utf-8")):
            assert (page.parent / target).resolve().exists(), (page, target)


def dom_of(address, *options):
    """Return a page as a browser without a network has it once its scripts have run."""
    found = subprocess.run([CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu",
                            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
                            "--virtual-time-budget=3000", *options, "--dump-dom", address],
                           capture_output=True, text=True, timeout=120, check=True)
    return found.stdout


def test_every_picture_of_a_claim_has_its_text(built):
    for page in PATH:
        text = (built / "path" / f"{page.stem}.html").read_text(encoding="utf-8")
        names = re.findall(r"```\{claim\} (\S+)", page.read_text(encoding="utf-8"))
        assert all(re.search(rf'<img alt="Differences [^>]*/{name}_decisive\.svg"', text)
                   for name in names), page.stem


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
def test_the_slider_moves_the_picture(built):
    page = (built / "folding.html").as_uri()
    places = [re.findall(r'transform="(translate\([^"]*)"', dom_of(f"{page}#weight={step}"))
              for step in (0, 18)]
    assert len(places[0]) == len(places[1]) > 100
    assert sum(a != b for a, b in zip(*places, strict=True)) > 90
    rates = [re.search(r'id="rate">([^<]*)<', dom_of(f"{page}#weight={step}")).group(1)
             for step in (0, 18)]
    assert float(rates[0].split()[0]) > float(rates[1].split()[0])


# Pages one after the other in one frame: what each wants to be wide is written into the title.
WIDTHS = """<iframe width="WIDE" height="900"></iframe><script>
const frame = document.querySelector("iframe"), pages = PAGES, widths = [];
frame.onload = () => setTimeout(() => {
  widths.push(frame.contentDocument.documentElement.scrollWidth);
  if (widths.length < pages.length) frame.src = pages[widths.length];
  else document.title = JSON.stringify(widths);
}, 50);
frame.src = pages[0];
</script>"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
@pytest.mark.parametrize("wide", [390, 1280])
def test_no_page_overflows(built, wide, tmp_path):
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=str(tmp_path)))
    (tmp_path / "guide").symlink_to(built.resolve())
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        places = [page.relative_to(built).as_posix() for page in sorted(built.rglob("*.html"))]
        places = [place for place in places if not place.startswith("_")
                  and place not in ("genindex.html", "search.html")]
        (tmp_path / "frame.html").write_text(WIDTHS.replace("WIDE", str(wide)).replace(
            "PAGES", json.dumps([f"guide/{place}" for place in places])))
        dom = dom_of(f"http://127.0.0.1:{server.server_port}/frame.html",
                     "--window-size=1400,1000", f"--virtual-time-budget={300 * len(places)}")
        widths = json.loads(re.search(r"<title>(.*)</title>", dom).group(1))
        assert len(widths) == len(places) > 40
        assert {place: width for place, width in zip(places, widths, strict=True)
                if width > wide} == {}
    finally:
        server.shutdown()


@pytest.mark.soak
def test_the_guide_is_built_without_a_warning(tmp_path):
    pytest.importorskip("myst_nb", reason="needs the extra docs")
    subprocess.run([sys.executable, "-m", "sphinx", "-W", "-q", str(DOCS), str(tmp_path)],
                   check=True)
