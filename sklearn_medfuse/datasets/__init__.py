"""Cohorts of real stays: labs, notes and diagnoses from tables as they are published."""

from . import phenotypes
from ._clif import load_clif
from ._cohort import Cohort
from ._eicu import load_eicu, load_eicu_demo
from ._long_tables import load_tables
from ._made_cohort import make_ehr_cohort
from ._meds import load_meds
from ._mimic3 import load_mimic3
from ._mimic4 import load_mimic4
from ._omop import load_omop
from ._options import CohortOptions

__all__ = [
    "Cohort",
    "CohortOptions",
    "load_clif",
    "load_eicu",
    "load_eicu_demo",
    "load_meds",
    "load_mimic3",
    "load_mimic4",
    "load_omop",
    "load_tables",
    "make_ehr_cohort",
    "phenotypes",
]
