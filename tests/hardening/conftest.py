"""The fuzzer and the storm lie with the benchmarks; the tests run them on fewer cases."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
