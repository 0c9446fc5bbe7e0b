"""A tiny random model of each family of transformers that reads text."""

import functools

import torch
from transformers import AutoModel, PretrainedConfig
from transformers.models.auto import modeling_auto as mappings
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

# Models with one of these heads are models of text
_HEADS = (
    "CAUSAL_LM",
    "MASKED_LM",
    "TEXT_ENCODING",
    "SEQ_TO_SEQ_CAUSAL_LM",
    "QUESTION_ANSWERING",
    "TOKEN_CLASSIFICATION",
)
# What the configs call their sizes; a config takes those that it has
_SIZES = {
    16: "hidden_size d_model n_embd dim emb_dim embedding_size embed_dim moe_intermediate_size "
    "shared_expert_intermediate_size expert_ffn_hidden_size entity_emb_size d_latents "
    "audio_hidden_size text_hidden_size",
    32: "intermediate_size d_ff ffn_dim encoder_ffn_dim decoder_ffn_dim hidden_dim n_inner d_inner "
    "feed_forward_size ffn_hidden_size dim_ff mamba_d_ssm",
    2: "num_hidden_layers n_layer n_layers num_layers encoder_layers decoder_layers "
    "num_encoder_layers num_decoder_layers num_attention_heads n_head n_heads num_heads "
    "encoder_attention_heads decoder_attention_heads num_key_value_heads num_experts "
    "num_local_experts n_routed_experts moe_topk zero_expert_num num_buckets eos_token_id",
    1: "num_decoder_hidden_layers num_experts_per_tok n_shared_experts n_group topk_group "
    "first_k_dense_replace mamba_n_groups n_groups bos_token_id",
    8: "head_dim d_kv qk_rope_head_dim qk_nope_head_dim v_head_dim q_lora_rank kv_lora_rank "
    "mamba_d_head mamba_d_state state_size hidden_size_per_layer_input attention_head_size "
    "pronunciation_embed_dim shape_embed_dim local_attn_chunk_length lsh_attn_chunk_length "
    "mamba_chunk_size chunk_size linear_key_head_dim linear_value_head_dim "
    "index_head_dim d_head",
    4: "mamba_n_heads rotary_dim laurel_rank linear_num_key_heads linear_num_value_heads",
    64: "max_position_embeddings n_positions max_source_positions n_ctx",
    264: "vocab_size vocab_size_per_layer_input",
    20: "pronunciation_vocab_size shape_vocab_size entity_vocab_size",
    0: "pad_token_id num_kv_shared_layers",
}
SMALL = {name: size for size, names in _SIZES.items() for name in names.split()}
# What single families need besides, and names of `SMALL` that they do not take
_FOUR_LAYERS = ({"num_hidden_layers": 4}, "")
_MAMBA = {"mamba_expand": 2}
_OWN_HEADS = ({}, "head_dim")
_ROPE = {"rope_type": "default", "rope_theta": 10_000.0}
RECIPES: dict[str, tuple[dict, str]] = {
    **dict.fromkeys(
        [
            "lfm3",
            "qwen3_5",
            "qwen3_5_moe",
            "qwen3_5_moe_text",
            "qwen3_5_text",
            "qwen3_next",
            "recurrent_gemma",
        ],
        _FOUR_LAYERS,
    ),
    **dict.fromkeys(
        ["falcon", "gemma4", "gemma4_text", "gemma4_unified", "gemma4_unified_text", "mistral4"],
        _OWN_HEADS,
    ),
    "bamba": (_MAMBA | {"attn_layer_indices": [1]}, ""),
    "codegen": ({"n_head": 4, "n_embd": 32}, ""),
    "cohere_compass_text": (
        {"rope_parameters": {"full_attention": _ROPE, "sliding_attention": _ROPE}},
        "",
    ),
    "dbrx": ({"attn_config": {"kv_n_heads": 2, "rope_theta": 10_000.0, "clip_qkv": 8.0}}, ""),
    "layoutlmv3": ({"coordinate_size": 3, "shape_size": 2}, ""),
    "lilt": ({"hidden_size": 24}, ""),
    "funnel": ({"block_sizes": [1, 1], "architectures": ["FunnelModel"]}, "num_hidden_layers"),
    "gpt_neo": ({"attention_types": [[["global", "local"], 1]]}, ""),
    "granitemoehybrid": (_MAMBA | {"layer_types": ["mamba", "attention"]}, ""),
    "jamba": ({"attn_layer_period": 2, "attn_layer_offset": 1}, ""),
    "lfm2_moe": ({"layer_types": ["conv", "full_attention"]}, ""),
    "llama4": (
        {"projector_input_dim": 16, "projector_output_dim": 16, "vision_output_dim": 16},
        "",
    ),
    "mamba2": ({"num_heads": 4}, ""),
    "mimo_v2_flash": ({"num_key_value_heads": 1}, "v_head_dim"),
    "neomme": ({"head_dim": 16}, ""),
    "prophetnet": ({}, "num_hidden_layers"),
    "reformer": (
        {"axial_pos_embds_dim": [8, 8], "axial_pos_shape": [8, 8], "attn_layers": ["local", "lsh"]},
        "",
    ),
    "xlnet": ({}, "max_position_embeddings"),
    "xmod": ({"default_language": "en_XX", "languages": ["en_XX"]}, ""),
    "zamba": (
        {"layers_block_type": ["linear_attention", "hybrid", "hybrid"], "num_hidden_layers": 3},
        "",
    ),
    "zamba2": ({"layers_block_type": ["linear_attention", "hybrid"]}, ""),
}


def _families() -> list[str]:
    found = set()
    for head in _HEADS:
        found |= set(getattr(mappings, f"MODEL_FOR_{head}_MAPPING_NAMES"))
    return sorted(found & set(mappings.MODEL_MAPPING_NAMES))


FAMILIES = _families()


def _small(kind: type[PretrainedConfig], more: dict, without: str) -> PretrainedConfig:
    """The smallest config of a kind and of the configs in it."""
    usual = kind()
    given = {}
    for name in getattr(kind, "sub_configs", {}):
        own = getattr(usual, name, None)
        if isinstance(own, PretrainedConfig):
            given[name] = _small(type(own), more, without).to_dict()
    sizes = {k: v for k, v in SMALL.items() if k not in without.split()} | more
    for name, value in sizes.items():
        # Another name of the same size
        if name in (getattr(kind, "attribute_map", None) or {}):
            continue
        if name in given and name not in more:
            continue
        known = getattr(usual, name, given)
        if known is not given and (name in more or not isinstance(known, list | dict)):
            given[name] = value
    return kind(**given)


@functools.cache
def tiny(family: str):
    """A random model of a family by transformers."""
    config = _small(CONFIG_MAPPING[family], *RECIPES.get(family, ({}, "")))
    with torch.device("meta"):
        n_weights = sum(p.numel() for p in AutoModel.from_config(config).parameters())
    if n_weights > 6_000_000:
        raise MemoryError(f"The recipe of {family} makes {n_weights:,} weights.")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return AutoModel.from_config(config).eval()
