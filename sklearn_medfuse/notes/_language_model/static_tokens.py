"""Word vectors without a net: the StaticEmbedding of sentence-transformers.

It has its own file because it needs transformers, which is only imported to load a model.
"""

import json
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerFast
from transformers.modeling_outputs import BaseModelOutput

from . import source
from .sentence import SentenceFormat


class StaticTokens(PreTrainedModel):
    """The vectors of sentence-transformers' StaticEmbedding, one per token whatever the context."""

    config_class = PretrainedConfig

    def __init__(self, weight: Tensor):
        config = PretrainedConfig()
        config.hidden_size = weight.shape[1]
        super().__init__(config)
        self.embedding = nn.Embedding.from_pretrained(weight)

    def get_input_embeddings(self) -> nn.Embedding:
        return self.embedding

    def forward(self, input_ids=None, attention_mask=None, inputs_embeds=None) -> BaseModelOutput:
        """Look the tokens up."""
        states = self.embedding(input_ids) if inputs_embeds is None else inputs_embeds
        return BaseModelOutput(last_hidden_state=states)


def read_static(
    spec: source.ModelSpec, place: str, found: SentenceFormat
) -> tuple[PreTrainedTokenizerFast, StaticTokens]:
    """Read a StaticEmbedding: its tokenizer, without special tokens, and its vectors."""
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding

    hub: dict[str, Any] = {"revision": spec.revision, "local_files_only": spec.local_files_only}
    read = StaticEmbedding.load(place, subfolder=found.folder, **hub)
    # It adds no special tokens, whatever the tokenizer's file says
    rules = json.loads(read.tokenizer.to_str()) | {"post_processor": None}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(rules)))
    model = StaticTokens(read.embedding.weight.detach().to(getattr(torch, spec.dtype)))
    return tokenizer, model
