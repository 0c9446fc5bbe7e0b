"""Cohorts of real stays: labs, notes and diagnoses from tables as they are published."""

from . import phenotypes
from ._cohort import Cohort
from ._eicu import load_eicu, load_eicu_demo

__all__ = ["Cohort", "load_eicu", "load_eicu_demo", "phenotypes"]
