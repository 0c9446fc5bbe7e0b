"""Tokens that stand around those of a note: the model's special ones and the prompt's."""

from collections.abc import Iterator
from contextlib import contextmanager

_PLACE = "{text}"


@contextmanager
def no_panic() -> Iterator[None]:
    """Raise a ValueError where the Rust code of a tokenizer breaks off, which raises no Exception.

    A tokenizer of a damaged or forged file may be read and yet break off at a text.
    """
    try:
        yield
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
    else:
        return
    # not chained: what broke off may tell of the text
    raise ValueError(
        "The tokenizer of the model broke off: a file of it is damaged. Get the files again."
    ) from None


def special_tokens(tokenizer) -> tuple[list[int], list[int]]:
    """Ids that the tokenizer puts before and after a text, found by a probe."""
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    full = tokenizer("a")["input_ids"]
    for start in range(len(full) - len(bare) + 1):
        if full[start : start + len(bare)] == bare:
            return full[:start], full[start + len(bare) :]
    return [], []


def prompt_tokens(tokenizer, prompt: str | None) -> tuple[list[int], list[int]]:
    """Ids of the prompt before and after "{text}"; all before where that is not in it."""
    before, _, after = (prompt or "").partition(_PLACE)

    def tokenize(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False)["input_ids"] if text else []

    return tokenize(before), tokenize(after)
