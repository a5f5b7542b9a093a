"""Sphinx settings: pages in Markdown, furo, and the pages that `_extension` writes."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE / "_extension")]

import sippet_gevent  # noqa: E402 from this checkout

project = "sippet_gevent"
author = "the sippet_gevent authors"
copyright = "the sippet_gevent authors"
version = release = sippet_gevent.__version__

extensions = [
    "sphinx.ext.autodoc",
    "myst_parser",
    "sphinx_copybutton",
    "pages",
    "rfc_links",
    "docstrings",
]
exclude_patterns = ["_build"]
templates_path = []
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]
nitpicky = False

autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints = "signature"
python_maximum_signature_line_length = 88
autodoc_class_signature = "mixed"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
add_module_names = False
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = f"sippet_gevent {version}"
html_static_path = ["_static"]
html_show_sphinx = False
html_copy_source = False
copybutton_prompt_text = r"\$ "
copybutton_prompt_is_regexp = True


def setup(app):
    from pygments.lexers.special import TextLexer

    app.add_lexer("log", TextLexer)  # lines of the log, which a test compares with the package
