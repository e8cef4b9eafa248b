"""Configuration of the site: `make docs` builds it into build/docs."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent)]

import scoresde  # noqa: E402

project = "scoresde"
copyright = "The scoresde maintainers, Apache License 2.0"
version = release = scoresde.__version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode", "myst_parser", "house"]
exclude_patterns = ["_ext", "_build"]
source_suffix = {".md": "markdown"}
nitpicky = True

autodoc_class_signature = "mixed"
autodoc_inherit_docstrings = False
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
python_maximum_signature_line_length = 88
add_module_names = False
toc_object_entries_show_parents = "hide"

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"scoresde {version}"
html_static_path = ["_static"]
html_css_files = ["house.css"]
html_show_sphinx = False
html_theme_options = {"navigation_with_keys": True}
