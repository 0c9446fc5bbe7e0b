"""Many machines: Dask for searches and predictions, and what embedding many notes costs.

Needs the extra `distributed`. Fine-tuning on several GPUs is in `LLMNoteEncoder` itself.
"""

from ._embedding_cost import EmbeddingCost, embedding_cost
from ._partitions import predict_proba, transform
from ._scattering import gather, release, scatter

__all__ = ["EmbeddingCost", "embedding_cost", "gather", "predict_proba", "release", "scatter"]
__all__ += ["transform"]
