import os
import time
import traceback

import pytest

from .leaks import *
from .test_canaries import *
from .test_canaries import CALLS, hostile


@pytest.mark.filterwarnings("ignore")
def test_dump(world, fitted, tmp_path):
    part = os.environ.get("PART", "metrics")
    out = open(f"/tmp/dump_{part.replace(',', '_')[:30]}.txt", "w")
    for name, call in sorted(CALLS.items()):
        if not call.data or not name.startswith(tuple(part.split(","))):
            continue
        t = time.time()
        n = 0
        folder = tmp_path / name
        folder.mkdir()
        good = call.good(world, fitted, folder)
        for a in call.data:
            for kind, wrong in hostile(good[a]).items():
                n += 1
                with listening() as heard:
                    call.target(world, fitted, folder)(**{**good, a: wrong})
                c = heard.canaries()
                if c:
                    told = heard.told()
                    e = heard.error
                    where = (
                        [
                            f"{f.filename.split('/')[-1]}:{f.lineno}"
                            for f in traceback.extract_tb(e.__traceback__)
                        ][-5:]
                        if e
                        else None
                    )
                    txt = {
                        s: [l for l in told[s].split("\n") if in_text(l)][:1]
                        for s in set(c.values())
                    }
                    out.write(f"{name} | {a} | {kind} | {c} | {str(txt)[:260]} | {where}\n")
                    out.flush()
        plt.close("all")
        out.write(f"# {name} {n} {time.time() - t:.1f}s\n")
        out.flush()
