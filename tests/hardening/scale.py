"""How often a slow test repeats what it does: `MEDFUSE_HARDENING_SCALE`, 1 unless set.

MEDFUSE_HARDENING_SCALE=25 python -m pytest -s -m slow tests/hardening/test_storms.py
"""

import os

SCALE = int(os.environ.get("MEDFUSE_HARDENING_SCALE", "1"))
