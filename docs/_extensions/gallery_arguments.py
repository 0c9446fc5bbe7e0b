"""The command line that sphinx-gallery gives to the examples."""


def be_quiet(gallery_conf, script_vars):
    """Ask for no progress bars, which would crowd the page."""
    return ["--quiet"]
