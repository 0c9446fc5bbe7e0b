"""Equations as MathML, which browsers draw themselves: no script, and none from a network."""

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.util import logging

_LOGGER = logging.getLogger(__name__)


def visit_inline(translator, node: nodes.math) -> None:
    """Write an equation within a line."""
    translator.body.append(_render(node, as_block=False))
    raise nodes.SkipNode


def visit_block(translator, node: nodes.math_block) -> None:
    """Write an equation of its own, which scrolls where the screen is narrower."""
    equation = _render(node, as_block=True)
    translator.body.append(f'<div class="math-block" tabindex="0">{equation}</div>')
    raise nodes.SkipNode


def _render(node, as_block: bool) -> str:
    try:
        return tex2mathml(node.astext(), as_block=as_block)
    except MathError as error:
        _LOGGER.warning("equation %r: %s", node.astext(), error, location=node)
        return nodes.unescape(node.astext())


def setup(app):
    """Register the renderer with Sphinx."""
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
