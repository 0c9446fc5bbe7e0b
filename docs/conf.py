"""Sphinx configuration: API pages from the docstrings, examples executed by sphinx-gallery."""

from sklearn_medfuse import __version__

project = "sklearn-medfuse"
author = "The sklearn-medfuse developers"
copyright = "2026, The sklearn-medfuse developers"
release = version = __version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build"]
templates_path = ["_templates"]

autosummary_generate = True
numpydoc_show_class_members = False
numpydoc_xref_param_type = False

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "filename_pattern": "plot_",
    "within_subsection_order": "FileNameSortKey",
    "show_memory": False,
    "remove_config_comments": True,
}

html_theme = "pydata_sphinx_theme"
html_title = "sklearn-medfuse"
html_theme_options = {"show_prev_next": False, "secondary_sidebar_items": ["page-toc"]}
