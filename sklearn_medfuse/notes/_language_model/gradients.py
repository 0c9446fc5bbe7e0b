"""The vector of a note as a function of its tokens' embeddings, which torch can differentiate."""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..._nn.chunk_pooling import pool_chunks
from .._texts import clean_columns, join_row
from .backbone import ModelParts, RowInputs, pad_rows
from .windows import Windows, special_tokens


class Placed(NamedTuple):
    """A token of a text: its column, and where in the cell it begins and ends."""

    column: int
    start: int
    stop: int


class TokenWindows(NamedTuple):
    """The windows of one row's text, padded to one length."""

    # Token ids (n_windows, length), including special tokens and the prompt; False in the padding
    ids: Tensor
    visible: Tensor
    # For each token its position in `placed`, the attributed tokens, or -1
    token: np.ndarray
    # Tokens of the text in each window, by which windows are weighted
    lengths: np.ndarray
    placed: list[Placed]


class DifferentiableNotes:
    """A note model in float32 with gradients, which cuts and pools like its encoder."""

    def __init__(self, parts: ModelParts, windows: Windows, headings, pooling, chunk_pooling):
        self.parts, self.cutter, self.headings = parts, windows, headings
        if not parts.tokenizer.is_fast:
            raise ValueError(
                "The tokenizer of this note model does not say where its tokens are in the text; "
                "use method='leave_out'."
            )
        self.pooling = parts.pooling.with_pooling(pooling)
        self.chunk_pooling = chunk_pooling
        self.device = next(parts.model.parameters()).device
        self.inputs = RowInputs(parts.model, special_tokens(parts.tokenizer))
        self.pooling = self.pooling.to(self.device)
        self.embedding = parts.model.get_input_embeddings()
        self.blank = parts.tokenizer.pad_token_id or 0

    def windows(self, cells: list, attributed: set[int]) -> TokenWindows | None:
        """Cut a row of cells as the encoder does; None if it has no token.

        `attributed` holds the positions of the columns whose tokens get attributions.
        """
        texts = [cleaned[0] for cleaned in clean_columns([[c] for c in cells], self.headings)]
        joined = join_row(texts, self.headings)
        starts = _cell_starts(texts, self.headings)
        prefix, suffix = self.cutter.prefix, self.cutter.suffix
        rows: list[list[int]] = []
        token_of: list[list[int]] = []
        lengths: list[int] = []
        placed: list[Placed] = []
        for start, piece in self.cutter.pieces(joined or ""):
            # Numbers by place, because windows share tokens
            numbers: dict[tuple[int, int], int] = {}
            for window in self.cutter.cut([piece], with_places=True)[0]:
                for found in window.places or []:
                    if found is not None and found not in numbers:
                        first, last = found
                        place = _place(start + first, start + last, texts, starts, attributed)
                        numbers[found] = -1 if place is None else len(placed)
                        placed += [] if place is None else [place]
                own = [-1 if at is None else numbers[at] for at in window.places or []]
                rows.append([*prefix, *window.ids, *suffix])
                token_of.append([*[-1] * len(prefix), *own, *[-1] * len(suffix)])
                lengths.append(window.length)
        if not rows:
            return None
        length = max(map(len, rows))
        ids, visible = pad_rows(rows, length, self.blank, self.device)
        token = np.array([row + [-1] * (length - len(row)) for row in token_of])
        return TokenWindows(ids, visible, token, np.array(lengths), placed)

    def embeddings(self, windows: TokenWindows) -> tuple[Tensor, Tensor]:
        """Embeddings (n_windows, length, d) of the tokens, and with the attributed ones blank."""
        note = torch.from_numpy(windows.token >= 0).to(self.device)
        blank = torch.where(note, self.blank, windows.ids)
        with torch.no_grad():
            return self.embedding(windows.ids), self.embedding(blank)

    def vectors(self, embeddings: Tensor, windows: TokenWindows) -> Tensor:
        """Vectors (n_copies, d) of a note's copies (n_copies, n_windows, length, d)."""
        n_copies, n_windows = embeddings.shape[:2]
        visible = windows.visible.repeat(n_copies, 1)
        ids = windows.ids.repeat(n_copies, 1)
        options: dict[str, Any] = self.inputs(ids, visible)
        del options["input_ids"]
        if hasattr(self.parts.model.config, "use_cache"):
            options["use_cache"] = False
        states = self.parts.model(inputs_embeds=embeddings.flatten(0, 1), **options)
        pooled = self.pooling(
            states.last_hidden_state,
            visible,
            ids,
            self.cutter.prompt_length,
            states.get("hidden_states"),
        )
        of_copy = torch.arange(n_copies, device=self.device).repeat_interleave(n_windows)
        lengths = torch.from_numpy(windows.lengths).to(pooled).repeat(n_copies)
        return pool_chunks(pooled, of_copy, n_copies, lengths, self.chunk_pooling)


def _cell_starts(texts: list[str | None], headings: list[str]) -> list[int]:
    """Where each column's text begins in the text that `join_row` makes."""
    starts = []
    for i, text in enumerate(texts):
        upto = join_row([*texts[: i + 1], *[None] * (len(texts) - i - 1)], headings)
        starts.append(len(upto or "") - len(text or ""))
    return starts


def _place(
    start: int, stop: int, texts: list[str | None], starts: list[int], attributed: set[int]
) -> Placed | None:
    """The place of a token in the cell of an attributed column, None if it is in none."""
    for column in sorted(attributed):
        text = texts[column]
        if text is None:
            continue
        # A token that reaches into the heading belongs to the cell; some have no characters
        first, last = max(start - starts[column], 0), min(stop - starts[column], len(text))
        if first < last or (start == stop and first == last):
            return Placed(column, first, last)
    return None
