"""Where the HTML diagram of an estimator links to."""

import os

# an address, or a path of the built site; a hospital without a network has the site on a disk
VARIABLE = "SKLEARN_MEDFUSE_DOCS_URL"


class DocLinkMixin:
    """Link an estimator's HTML diagram to its page in the documentation.

    The environment variable `SKLEARN_MEDFUSE_DOCS_URL` says where the site is, as an address
    ("https://docs.example.org") or as a folder on disk ("file:///srv/medfuse/html"). Without it
    the diagram has no link, as there is no address that holds for everybody.
    """

    _doc_link_module = "sklearn_medfuse"

    @property
    def _doc_link_template(self) -> str:
        """Template of scikit-learn, read when the diagram is drawn; empty for no link."""
        site = os.environ.get(VARIABLE, "").rstrip("/")
        page = f"{self._doc_link_module}.{{estimator_name}}.html"
        return f"{site}/generated/{page}" if site else ""
