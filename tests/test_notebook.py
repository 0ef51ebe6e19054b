"""The example notebook, executed, and what is stored in it."""

from __future__ import annotations

import os
import re
import sys
import time
from pathlib import Path

import pytest

from mfcore.data.synthetic import GENRES

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

NOTEBOOK = Path(__file__).parents[1] / "docs" / "first_steps.ipynb"
LARGEST = 80_000
LONGEST = 60
NUMBER = re.compile(r"[-+]?\d+(\.\d+)?")


def read():
    return nbformat.read(NOTEBOOK, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def text_of(cell):
    """What a cell shows, without what goes to standard error."""
    return "".join(output.get("text") or output.get("data", {}).get("text/plain", "")
                   for output in cell.outputs if output.get("name") != "stderr")


def outline(text):
    """The text without numbers and titles, which differ between machines."""
    return " ".join(re.sub("|".join(GENRES), "title", NUMBER.sub("#", text)).split())


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """The notebook after a run in a folder of its own, by this interpreter; and its seconds."""
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager

    class ThisPython(AsyncKernelManager):
        @property
        def kernel_spec(self):
            return KernelSpec(argv=[sys.executable, "-m", "ipykernel_launcher", "-f",
                                    "{connection_file}"], display_name="Python 3",
                              language="python")

    notebook = read()
    folder = tmp_path_factory.mktemp("notebook")
    client = nbclient.NotebookClient(notebook, timeout=300, km=ThisPython(),
                                     resources={"metadata": {"path": str(folder)}})
    start = time.perf_counter()
    client.execute(env=dict(os.environ))
    return notebook, time.perf_counter() - start


def test_the_notebook_runs_from_top_to_bottom_in_a_minute(executed):
    notebook, seconds = executed
    assert [cell.execution_count for cell in code_cells(notebook)] == list(
        range(1, len(code_cells(notebook)) + 1))
    assert seconds < LONGEST


def test_the_stored_outputs_are_those_of_a_run(executed):
    for stored, fresh in zip(code_cells(read()), code_cells(executed[0]), strict=True):
        assert outline(text_of(stored)) == outline(text_of(fresh)), stored.source


def test_the_notebook_finds_what_it_claims(executed):
    text = "\n".join(map(text_of, code_cells(executed[0])))
    assert "equal to one part in a million: True" in text
    assert "gives the same recommendations: True" in text
    known, unknown = (float(re.search(rf"^{name} cells \w+ +rmse .* ndcg@10 (\S+)", text,
                                      re.MULTILINE)[1]) for name in ("known", "unknown"))
    assert unknown > known


def test_the_notebook_is_small_clean_and_names_no_machine():
    raw = NOTEBOOK.read_text("utf-8")
    assert len(raw) < LARGEST
    nbformat.validate(read())
    outputs = [output for cell in code_cells(read()) for output in cell.outputs]
    assert {output.output_type for output in outputs} <= {"stream", "execute_result",
                                                          "display_data"}
    assert not [output for output in outputs if output.get("name") == "stderr"]
    assert not re.search(r"/(home|root|tmp|Users|work)/", raw)


@pytest.mark.parametrize("path", sorted((NOTEBOOK.parent / "examples").glob("*.ipynb")),
                         ids=lambda path: path.stem)
def test_an_example_of_the_gallery_is_short_and_without_outputs(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert len(code_cells(notebook)) <= 6
    assert not any(cell.outputs for cell in code_cells(notebook))
    assert notebook.cells[0].source.startswith("# ")
    gallery = (path.parent / "index.md").read_text("utf-8")
    assert gallery.count(f"{path.stem}") == 2            # its card, and the contents


def test_a_changed_output_is_seen():
    assert outline("Comedy 17 scores 4.9") == outline("Western 3 scores\n 4.2")
    assert outline("rmse 0.4") != outline("ndcg 0.4")
