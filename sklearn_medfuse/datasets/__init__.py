"""Cohorts of real stays: labs, notes and diagnoses from tables as they are published."""

from . import phenotypes
from ._cohort import Cohort
from ._loaders.clif import load_clif
from ._loaders.eicu import load_eicu, load_eicu_demo
from ._loaders.long_tables import load_tables
from ._loaders.meds import load_meds
from ._loaders.mimic3 import load_mimic3
from ._loaders.mimic4 import load_mimic4
from ._loaders.omop import load_omop
from ._made_cohort import make_ehr_cohort
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
