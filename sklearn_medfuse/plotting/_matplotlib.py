"""matplotlib on first use, and the marks that tell series apart in colour and in print."""

# Colours of Okabe and Ito (2008), which stay apart under every kind of colour blindness, in an
# order in which neighbours also differ in lightness. Each has a marker of its own.
MARKS = (
    ("#0072B2", "o"),  # blue
    ("#E69F00", "s"),  # orange
    ("#009E73", "^"),  # green
    ("#882255", "D"),  # wine (Tol 2021): darker in grey print than Okabe and Ito's vermilion
    ("#56B4E9", "v"),  # sky blue
    ("#CC79A7", "P"),  # pink
    ("#000000", "X"),  # black
)

# of lines, beside their colours, so that they stay apart in grey print
LINES = ("-", (0, (5, 2)), (0, (2, 1.5)), (0, (7, 2, 1.5, 2)), "-", (0, (5, 2)), (0, (2, 1.5)))


def import_pyplot():
    """Import matplotlib.pyplot, or say how to install it.

    Returns
    -------
    pyplot : module
        The module ``matplotlib.pyplot``.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            "Plots need matplotlib, which is not installed: "
            'run `pip install "sklearn-medfuse[plot]"`.'
        ) from error
    return plt
