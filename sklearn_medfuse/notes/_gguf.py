"""Models in GGUF files: they are loaded as plain ones, with all weights unpacked."""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import transformers
from packaging.version import Version
from transformers import PreTrainedModel

GGUF = ".gguf"
# 5.10 and before find no weights for a model without a head
OLDEST_TRANSFORMERS = "5.23"


class DamagedFileError(OSError):
    """A file is there and could not be read."""


def check_version(model: str) -> None:
    """Refuse a version of transformers that does not find the weights."""
    if Version(transformers.__version__) < Version(OLDEST_TRANSFORMERS):
        raise ImportError(
            f"model={model!r} is a GGUF file, which needs transformers>={OLDEST_TRANSFORMERS}, and "
            f'{transformers.__version__} is installed: pip install "sklearn-medfuse[gguf]".'
        )


def unpacking() -> dict[str, Any]:
    """Options of from_pretrained that unpack the weights of a GGUF file.

    Where its kernels are installed, a newer transformers leaves them in blocks, which can neither
    be trained nor saved; one that has no such setting unpacks them anyway.
    """
    settings = getattr(transformers, "GgufConfig", None)
    return {} if settings is None else {"quantization_config": settings(dequantize=True)}


def unmark(model: PreTrainedModel) -> None:
    """Take away the mark of a quantised model, which forbids to save the unpacked weights."""
    quantizer = getattr(model, "hf_quantizer", None)
    if quantizer is not None:
        quantizer.remove_quantization_config(model)


@contextmanager
def reading_gguf(model: str) -> Iterator[None]:
    """Make one error of the many errors that a damaged file ends in."""
    try:
        yield
    except (IndexError, KeyError, ValueError, struct.error) as error:
        raise DamagedFileError(
            f"The GGUF file of model={model!r} could not be read: it is damaged or cut short, or "
            "its kind of model or tokenizer is not known to this version of transformers. Fetch "
            "it again, or give the model as a folder."
        ) from error
