"""Errors on wrong input that say what is wrong without quoting the input."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

# Patterns in messages of numpy, pandas and scikit-learn that quote the input, with replacements
_QUOTES = (
    (r"could not convert string to float.*", "X holds text where numbers are expected."),
    (r"instead:\narray=.*\.\nReshape", "instead. Reshape"),
    (r"(Complex data not supported).*", r"\1."),
    (r"(Expected array-like \(array or non-string sequence\)), got .*", r"\1."),
    (r"(Input should have at least 1 dimension).*", r"\1."),
    (r"(must be called with a collection of some kind), .* was passed", r"\1"),
    (r"(The '(?:cohort|y_true|y_pred|y_score)' parameter of .*?)\.? Got .* instead\.", r"\1."),
    (r"(invalid literal for int\(\)).*", r"\1."),
)


@contextmanager
def no_values_in_errors() -> Iterator[None]:
    """Remove the input, which is patient data, from other libraries' messages about it.

    The error itself is altered, as one raised in its place would keep it as its context, which
    error trackers send along.

    Examples
    --------
    >>> with no_values_in_errors():
    ...     float("Jane Doe")
    Traceback (most recent call last):
    ...
    ValueError: X holds text where numbers are expected.
    """
    try:
        yield
    except (TypeError, ValueError) as error:
        message = str(error)
        for quoting, silent in _QUOTES:
            message = re.sub(quoting, silent, message, flags=re.DOTALL)
        error.args = (message,)
        error.__cause__ = error.__context__ = None
        raise
