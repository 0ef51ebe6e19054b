"""How the study guide is built: python -m sphinx -W docs docs/_build."""

import logging
import os
import re
import sys
import tempfile
from importlib.metadata import version as version_of
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_lib"))
sys.path.append(str(HERE.parent))              # the benchmarks, which are not installed
# Pages are executed by processes of their own, which import guide.py too.
os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE / "_lib"), os.environ.get("PYTHONPATH", "")])

# They are told to keep to errors: they warn of every page that what they say among themselves, on
# this machine, is not encrypted.  And to show no progress: pages are read, not watched, and a slow
# machine would fill them with bars.
settings = Path(tempfile.mkdtemp(prefix="mfcore-guide-")) / "profile_default"
settings.mkdir()
(settings / "ipython_kernel_config.py").write_text(
    "app = get_config().IPKernelApp\napp.log_level = 40\n"
    "app.exec_lines = ['from mfcore import progress', 'progress.is_shown = bool']\n")
os.environ["IPYTHONDIR"] = str(settings.parent)
logging.getLogger("traitlets").setLevel(logging.WARNING)    # (builds on several processes show it)

project = "mfcore"
author = "the mfcore developers"
project_copyright = author
version = release = version_of("mfcore")

extensions = ["myst_nb", "sphinx.ext.autodoc", "numpydoc", "shown", "mathematics", "claims",
              "registered", "reference", "days", "solution",
              "gallery"]
exclude_patterns = ["_build", "_lib", "jupyter_execute"]
nitpicky = False

myst_enable_extensions = ["dollarmath", "colon_fence", "deflist"]
myst_heading_anchors = 3
nb_execution_mode = "force"
nb_execution_timeout = 300
nb_execution_raise_on_error = True
nb_merge_streams = True
nb_execution_in_temp = True                    # notebooks that write files write them elsewhere

autodoc_member_order = "bysource"
autodoc_typehints = "none"                     # numpydoc's docstrings say shapes and ranges
numpydoc_show_class_members = False

NAMED = re.compile(r"(\"?\w+@\w+\"?)")           # a metric with its cut-off, not an e-mail
smartquotes = False                            # strings are to be copied

html_theme = "furo"                            # light and dark, fonts of the reader's system
html_title = "mfcore: the study guide"
html_static_path = ["_static"]
html_css_files = ["guide.css"]
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False


def as_written(app, what, name, value, options, lines):
    """Keep the head of a module as it is written: formulas in lines of equal letters."""
    if what == "module":
        lines[:] = ["::", "", *(f"    {line}" for line in lines), ""]
    else:                                      # |x| is no substitution here
        lines[:] = [line if "``" in line or line.lstrip().startswith((">>>", "..."))
                    else NAMED.sub(r"``\1``", line.replace("|", r"\|")) for line in lines]


def setup(app):
    """Hear of every docstring, after numpydoc."""
    app.connect("autodoc-process-docstring", as_written, priority=900)
