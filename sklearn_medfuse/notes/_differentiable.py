"""The vector of a note as a function of its tokens' embeddings, which torch can differentiate."""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .._nn.chunk_pooling import pool_chunks, pool_tokens
from ._backbone import load_parts, special_tokens
from ._chunking import window_starts
from ._encoder_model import backbone_spec, tokens_per_window, tuned_fields


class TokenWindows(NamedTuple):
    """The windows of one note, padded to one length.

    Attributes
    ----------
    ids : int64 Tensor of shape (n_windows, length)
        Token ids with the special ones.
    visible : bool Tensor of shape (n_windows, length)
        False in the padding.
    token : int64 array of shape (n_windows, length)
        Which token of the note each is, -1 for special ones and padding.
    spans : list of (int, int)
        Where each token begins and ends in the note.
    """

    ids: Tensor
    visible: Tensor
    token: np.ndarray
    spans: list[tuple[int, int]]


class DifferentiableNotes:
    """The model of a fitted LLMNoteEncoder, loaded once more in float32 and with gradients.

    Parameters
    ----------
    encoder : LLMNoteEncoder
        Fitted, of any pooling but of chunk_pooling="attention", and without prompt, weights of its
        own (weights="full") or quantization.
    """

    def __init__(self, encoder):
        cannot = [
            name
            for name, wrong in (
                ("chunk_pooling='attention'", encoder.chunk_pooling == "attention"),
                ("a prompt", encoder.prompt is not None),
                ("weights='full'", hasattr(encoder, "model_files_")),
                ("quantization", encoder.quantization is not None),
            )
            if wrong
        ]
        if cannot:
            raise ValueError(
                f"Gradients do not pass through a note encoder with {cannot[0]}; use "
                "method='leave_out'."
            )
        parts = load_parts(backbone_spec(encoder)._replace(dtype="float32"))
        tuned = tuned_fields(encoder)
        if tuned is not None:
            from ._adapter import TunedWeights, apply_weights

            parts = apply_weights(parts, TunedWeights(*tuned))
        self.parts = parts
        self.encoder = encoder
        self.pooling = parts.pooling if encoder.pooling == "auto" else encoder.pooling
        self.window = tokens_per_window(encoder, parts.tokenizer, parts.max_length)
        self.device = next(parts.model.parameters()).device
        self.embedding = parts.model.get_input_embeddings()
        prefix, suffix = special_tokens(parts.tokenizer)
        self.before, self.after = list(prefix), list(suffix)
        self.blank = parts.tokenizer.pad_token_id or 0

    def windows(self, note: str) -> TokenWindows:
        """Cut a note as the encoder does."""
        rows: list[list[int]] = []
        token_of: list[list[int]] = []
        spans: list[tuple[int, int]] = []
        for start, piece in _pieces(note, self.encoder.split_on):
            found = self.parts.tokenizer(
                piece, add_special_tokens=False, return_offsets_mapping=True, verbose=False
            )
            ids, first = found["input_ids"], len(spans)
            spans += [(start + a, start + b) for a, b in found["offset_mapping"]]
            for begin, end in window_starts(len(ids), self.window, self.encoder.stride):
                rows.append([*self.before, *ids[begin:end], *self.after])
                around = [-1] * len(self.before), [-1] * len(self.after)
                token_of.append([*around[0], *range(first + begin, first + end), *around[1]])
        length = max(map(len, rows))
        ids = torch.tensor([row + [self.blank] * (length - len(row)) for row in rows])
        token = np.array([row + [-1] * (length - len(row)) for row in token_of])
        visible = torch.arange(length)[None] < torch.tensor([[len(row)] for row in rows])
        return TokenWindows(ids.to(self.device), visible.to(self.device), token, spans)

    def embeddings(self, windows: TokenWindows) -> tuple[Tensor, Tensor]:
        """Embeddings of the tokens, and of blank ones in place of the note's.

        Both have shape (n_windows, length, d); special tokens stay.
        """
        note = torch.from_numpy(windows.token >= 0).to(self.device)
        blank = torch.where(note, self.blank, windows.ids)
        with torch.no_grad():
            return self.embedding(windows.ids), self.embedding(blank)

    def vectors(self, embeddings: Tensor, windows: TokenWindows) -> Tensor:
        """Vectors (n_copies, d) of copies of a note.

        `embeddings` has shape (n_copies, n_windows, length, d).
        """
        n_copies, n_windows = embeddings.shape[:2]
        visible = windows.visible.repeat(n_copies, 1)
        options: dict[str, Any] = {"attention_mask": visible.long()}
        if hasattr(self.parts.model.config, "use_cache"):
            options["use_cache"] = False
        states = self.parts.model(inputs_embeds=embeddings.flatten(0, 1), **options)
        pooled = pool_tokens(states.last_hidden_state, visible, self.pooling)
        if self.parts.normalize:
            pooled = torch.nn.functional.normalize(pooled, dim=1)
        of_copy = torch.arange(n_copies, device=self.device).repeat_interleave(n_windows)
        lengths = torch.from_numpy((windows.token >= 0).sum(axis=1)).to(pooled).repeat(n_copies)
        return pool_chunks(pooled, of_copy, n_copies, lengths, self.encoder.chunk_pooling)


def _pieces(note: str, split_on: str | None) -> list[tuple[int, str]]:
    """Where each piece that is not blank begins, and the piece, as `split_notes` cuts."""
    pieces, start = [], 0
    for piece in note.split(split_on) if split_on else [note]:
        if piece.strip():
            pieces.append((start, piece))
        start += len(piece) + len(split_on or "")
    return pieces
