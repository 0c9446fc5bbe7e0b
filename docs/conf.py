"""Sphinx configuration: API pages from the docstrings, examples executed by sphinx-gallery."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_extensions"))
# Diagrams of estimators on the gallery's pages link to the reference beside them
os.environ["SKLEARN_MEDFUSE_DOCS_URL"] = ".."

from sklearn_medfuse import __version__

project = "sklearn-medfuse"
author = "The sklearn-medfuse developers"
copyright = "2026, The sklearn-medfuse developers"
release = version = __version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "mathml",
    "numpydoc",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build"]
templates_path = ["_templates"]
# Names between single backticks, as numpydoc has them
default_role = "literal"

autosummary_generate = True
# Methods by their own names in the table of contents, which is narrow
toc_object_entries_show_parents = "hide"
numpydoc_show_class_members = False
numpydoc_xref_param_type = False

copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "filename_pattern": "plot_",
    # Shown whole where it is explained, in your_hospital.rst
    "ignore_pattern": r"own_tables\.py",
    "within_subsection_order": "FileNameSortKey",
    "reset_argv": "gallery_arguments.be_quiet",
    "doc_module": ("sklearn_medfuse",),
    "backreferences_dir": "generated/backreferences",
    # A figure says more than the name of its class
    "ignore_repr_types": r"sklearn_medfuse\.plotting",
    "show_memory": False,
    "write_computation_times": False,
    "show_signature": False,
    "remove_config_comments": True,
}

html_math_renderer = "mathml"
html_theme = "pydata_sphinx_theme"
html_title = "sklearn-medfuse"
html_static_path = ["_static"]
html_css_files = ["custom.css"]
html_logo = html_favicon = "_static/logo.svg"
html_context = {"default_mode": "auto"}
html_show_sourcelink = False
html_theme_options = {
    "logo": {"text": "sklearn-medfuse"},
    "show_prev_next": True,
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
    "header_links_before_dropdown": 5,
    "footer_start": ["copyright"],
    "footer_end": ["sphinx-version"],
}
# Pages without pages below them have nothing to show in a sidebar
_WITHOUT_SIDEBAR = [
    "index",
    "install",
    "tour",
    "data",
    "your_hospital",
    "choosing_llm",
    "air_gapped",
    "hardening",
    "faq",
    "reading_the_method",
    "peers",
    "results",
]
html_sidebars = {page: [] for page in _WITHOUT_SIDEBAR}
