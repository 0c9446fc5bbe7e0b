"""Check a built site without a network: every link within it leads somewhere, nothing is loaded.

    python tools/check_site.py docs/_build/html

Links, pictures, scripts and style sheets have to be files of the site, and fragments have to be
in the page that they point to. A page may link to other sites, but load nothing from them: the
site is read inside hospitals.
"""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

# what a browser fetches by itself, where a link waits for a click
_LOADED = {"img": "src", "script": "src", "link": "href", "iframe": "src", "source": "src"}
_NOT_FILES = {"http", "https", "mailto", "data", "javascript"}


class Page(HTMLParser):
    """The links of a page, what it loads, and the fragments that it has.

    Parameters
    ----------
    text : str
        The page.
    """

    def __init__(self, text):
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.fragments: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        """Note what a tag points to and the name that it gives."""
        given = dict(attrs)
        self.fragments |= {given[name] for name in ("id", "name") if given.get(name)}
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        if given.get(_LOADED.get(tag, "")):
            self.loaded.append(given[_LOADED[tag]])


def check(site):
    """List what is wrong with a site.

    Parameters
    ----------
    site : Path
        Folder of the built pages.

    Returns
    -------
    list of str
        One line for each fault.
    """
    pages = {
        path.resolve(): Page(path.read_text(encoding="utf-8"))
        for path in site.rglob("*.html")
        # themes keep their templates beside the files that pages load
        if path.relative_to(site).parts[0] != "_static"
    }
    if not pages:
        return [f"{site} holds no page"]
    faults = []
    for path, page in pages.items():
        name = path.relative_to(site.resolve())
        faults += [f"{name} loads {url} from elsewhere" for url in page.loaded if _is_remote(url)]
        for url in page.links + page.loaded:
            if fault := _broken(url, path, pages):
                faults.append(f"{name} links to {url}: {fault}")
    return sorted(set(faults))


def _is_remote(url):
    parts = urlsplit(url)
    return parts.scheme in {"http", "https"} or bool(parts.netloc)


def _broken(url, path, pages):
    parts = urlsplit(url)
    if parts.scheme in _NOT_FILES or parts.netloc:
        return None
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if not target.is_file():
        return "no such file"
    # what follows :~: is a text for the browser to mark
    fragment = unquote(parts.fragment.split(":~:")[0])
    if fragment and target in pages and fragment not in pages[target].fragments:
        return "no such place in the page"
    return None


def main():
    """Print the faults of the site named on the command line."""
    faults = check(Path(sys.argv[1]))
    print("\n".join([*faults, f"{len(faults)} faults in {sys.argv[1]}"]))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
