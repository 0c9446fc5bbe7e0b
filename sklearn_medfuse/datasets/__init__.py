"""Cohorts of real stays: labs, notes and diagnoses from tables as they are published."""

from . import phenotypes
from ._cohort import Cohort
from ._eicu import load_eicu, load_eicu_demo
from ._long_tables import load_tables
from ._options import CohortOptions

__all__ = [
    "Cohort",
    "CohortOptions",
    "load_eicu",
    "load_eicu_demo",
    "load_tables",
    "phenotypes",
]
