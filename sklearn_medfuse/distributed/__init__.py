"""Several machines: searches and predictions with Dask, and the cost of embedding many notes.

Needs the extra `distributed`. `LLMNoteEncoder` itself fine-tunes on several GPUs.
"""

from ._embedding_cost import EmbeddingCost, embedding_cost
from ._partitions import predict_proba, transform
from ._scattering import gather, release, scatter

__all__ = ["EmbeddingCost", "embedding_cost", "gather", "predict_proba", "release", "scatter"]
__all__ += ["transform"]
