"""Tokens that stand around those of a note: the model's special ones and the prompt's."""

_PLACE = "{text}"


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
