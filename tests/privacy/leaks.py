"""Canaries, and where to look for them: what is shown, logged, raised, kept in objects or files."""

import gc
import io
import logging
import math
import re
import traceback
import types
import warnings
import zipfile
import zlib
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy import sparse

TEXTS = {
    "note": "zebulonquixote",
    "stay": "stayzq4711",
    "patient": "patientzq0815",
    "hospital": "hospitalzq1234",
    "level": "levelzqamber",
}
VALUE = 73912.84613
CANARIES = (*TEXTS, "value")
LOGGERS = ("", "sklearn_medfuse", "transformers", "torch", "joblib", "sklearn", "skorch", "duckdb")

_TEXT = re.compile("|".join(f"(?P<{kind}>{text})" for kind, text in TEXTS.items()), re.IGNORECASE)
# The digits as they are or cut short, with a comma between thousands, or in a float's exponent form
_DIGITS = re.compile(r"73,?912\.8|7\.39128\d*e\+?0?4")
_ENCODED = {
    **{kind: text.encode("utf-16-le") for kind, text in TEXTS.items()},
    "value": np.float64(VALUE).tobytes(),
}
_MORE_ENCODED = {"value": np.float64(VALUE).byteswap().tobytes()}
_ZLIB_MAGIC = (b"\x78\x9c", b"\x78\xda", b"\x78\x01")


def in_text(text: str) -> set[str]:
    """Which canaries a text tells."""
    found = {match.lastgroup for match in _TEXT.finditer(text)}
    return found | ({"value"} if _DIGITS.search(text) else set())


def in_bytes(data: bytes) -> set[str]:
    """Which canaries bytes hold: as text, UTF-16 or float64, and in what is packed in them."""
    found = in_text(data.decode("latin-1"))
    for encoded in (_ENCODED, _MORE_ENCODED):
        found |= {kind for kind, raw in encoded.items() if raw in data}
    if data[:4] == b"PK\x03\x04":
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for name in archive.namelist():
                found |= in_text(name) | in_bytes(archive.read(name))
    for magic in _ZLIB_MAGIC:
        # A packed stream may begin anywhere, in a PDF's objects for example
        for match in re.finditer(re.escape(magic), data):
            found |= in_text(_unpacked(data[match.start() :]).decode("latin-1"))
    return found


def _unpacked(data: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(data, 10_000_000)
    except zlib.error:
        return b""


def in_numbers(values) -> set[str]:
    """Whether the number is among these, to the digits of a float32."""
    values = np.asarray(values)
    if values.dtype.kind in "fc" and values.size:
        with np.errstate(all="ignore"):
            close = np.isclose(values.real.astype(np.float64), VALUE, rtol=1e-6, atol=0)
        return {"value"} if close.any() else set()
    return set()


def _walk(root, ignored: tuple = ()):
    """Yield all that an object refers to, however deep, and the way there."""
    seen = {id(each) for each in ignored}
    queue = [(root, type(root).__name__)]
    kept = []
    while queue:
        each, path = queue.pop()
        if id(each) in seen or isinstance(each, types.ModuleType | type | types.CodeType):
            continue
        seen.add(id(each))
        # What goes away could give its id to another
        kept.append(each)
        yield each, path
        queue += [(part, f"{path}.{name}"[:200]) for name, part in _parts(each)]


def in_object(root, ignored: tuple = ()) -> dict[str, str]:
    """Which canaries an object holds, however deep, and where it was found first."""
    found: dict[str, str] = {}
    for each, path in _walk(root, ignored):
        for kind in _in_leaf(each):
            found.setdefault(kind, path)
    return found


def row_arrays(root, lengths: set[int]) -> list[str]:
    """Where an object holds arrays or tensors of one of these numbers of rows."""
    return [
        path
        for each, path in _walk(root)
        if isinstance(each, np.ndarray | torch.Tensor) and each.ndim and each.shape[0] in lengths
    ]


def _in_leaf(each) -> set[str]:
    if isinstance(each, str):
        return in_text(each)
    if isinstance(each, bytes | bytearray):
        return in_bytes(bytes(each))
    if isinstance(each, float):
        return {"value"} if math.isclose(each, VALUE, rel_tol=1e-6) else set()
    if isinstance(each, np.ndarray) and each.dtype != object:
        return (
            in_text(" ".join(each.ravel().tolist()))
            if each.dtype.kind == "U"
            else (in_numbers(each))
        )
    if isinstance(each, torch.Tensor):
        plain = each.to_dense() if each.layout != torch.strided or each.is_mkldnn else each
        return in_numbers(plain.detach().cpu().to(torch.float64).numpy())
    return set()


def _parts(each):
    """What an object refers to, by name where it has one."""
    if isinstance(each, str | bytes | int | float | torch.device | torch.dtype | None):
        return []
    if isinstance(each, dict):
        return [(str(k)[:20], v) for k, v in each.items()] + [("key", k) for k in each]
    if isinstance(each, list | tuple | set | frozenset):
        return list(enumerate(each))
    if isinstance(each, np.ndarray):
        return list(enumerate(each.ravel().tolist())) if each.dtype == object else []
    if isinstance(each, pd.DataFrame):
        columns = [(str(i), each.iloc[:, i]) for i in range(each.shape[1])]
        return [("index", each.index), ("columns", each.columns), *columns]
    if isinstance(each, pd.Series | pd.Index):
        whole = [("index", each.index)] if isinstance(each, pd.Series) else []
        return [("values", each.to_numpy()), ("name", each.name), *whole]
    if sparse.issparse(each):
        return [("data", each.tocoo().data)]
    if isinstance(each, types.FunctionType):
        cells = [cell.cell_contents for cell in each.__closure__ or () if _is_filled(cell)]
        return [("closure", cells), ("defaults", each.__defaults__), ("dict", each.__dict__)]
    if isinstance(each, torch.nn.Module):
        return [("state", each.__dict__)]
    if isinstance(each, types.FrameType | types.GeneratorType | logging.Logger):
        return []
    return list(enumerate(gc.get_referents(each)))


def _is_filled(cell) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False


def in_folder(folder: Path) -> dict[str, str]:
    """Which canaries lie under a folder, in names or content, and in which file."""
    found: dict[str, str] = {}
    for path in sorted(Path(folder).rglob("*")):
        here = in_text(str(path.relative_to(folder)))
        here |= in_bytes(path.read_bytes()) if path.is_file() else set()
        for kind in here:
            found.setdefault(kind, str(path.relative_to(folder)))
    return found


class Heard:
    """What a call showed on its way: output, logs, warnings, and the error it ended in."""

    def __init__(self):
        self.output = io.StringIO()
        self.logged = io.StringIO()
        self.warned: list[str] = []
        self.error: BaseException | None = None

    def told(self) -> dict[str, str]:
        """Sink → text."""
        texts = {"output": self.output.getvalue(), "logs": self.logged.getvalue()}
        texts["warnings"] = "\n".join(self.warned)
        if self.error is not None:
            texts["error"] = "\n".join(_chain(self.error))
            texts["traceback"] = "".join(traceback.format_exception(self.error))
        return texts

    def canaries(self) -> dict[str, str]:
        """Canary → sink in which it was told."""
        return {kind: sink for sink, text in self.told().items() for kind in in_text(text)}


def _chain(error: BaseException) -> list[str]:
    """Messages and arguments of an error and of all that led to it, suppressed ones too."""
    texts, queue, seen = [], [error], set()
    while queue:
        each = queue.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        notes = getattr(each, "__notes__", [])
        texts += [str(each), repr(each), *map(str, each.args), *notes]
        queue += [each.__cause__, each.__context__]
    return texts


@contextmanager
def listening():
    """Hear all that is printed, logged at DEBUG, warned of and raised within the block."""
    heard = Heard()
    handler = logging.StreamHandler(heard.logged)
    levels = {name: logging.getLogger(name).level for name in LOGGERS}
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.DEBUG)
    tops = [logging.getLogger(name) for name in LOGGERS]
    tops = [logger for logger in tops if logger.parent is None or not logger.propagate]
    for logger in tops:
        logger.addHandler(handler)
    try:
        with (
            warnings.catch_warnings(record=True) as caught,
            redirect_stdout(heard.output),
            redirect_stderr(heard.output),
        ):
            warnings.simplefilter("always")
            try:
                yield heard
            except Exception as error:
                heard.error = error
        heard.warned = [str(warning.message) for warning in caught]
    finally:
        for logger in tops:
            logger.removeHandler(handler)
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
