"""No doctest and no test leaves a figure open."""

import sys

import pytest


@pytest.fixture(autouse=True)
def close_figures():
    yield
    if (pyplot := sys.modules.get("matplotlib.pyplot")) is not None:
        pyplot.close("all")
