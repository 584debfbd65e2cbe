"""Further models, as the fields of their config.json that say their shape.

Fields of models published since 2025 are mostly from configurations in aiconfigurator-core 0.12.0 and aiconfigurator
0.5.0 (Apache-2.0, NVIDIA); the others were written from memory and checked by their sum alone. `billions` is what the
publisher says of the text part, which a test holds the shape to; of kimi-k3, gemma-4-e2b and gemma-4-e4b it is our own
sum (publishers count encoders in, or say nothing), and holds them to nothing.
"""

from __future__ import annotations

from typing import Final

# name | Hugging Face id | billions of parameters | the checkpoint's own format | fields
TABLE: Final = r"""
codellama-13b | codellama/CodeLlama-13b-hf | 13.02 |  | {"model_type":"llama", "hidden_size":5120,
  "num_hidden_layers":40, "vocab_size":32016, "num_attention_heads":40, "intermediate_size":13824}
codellama-34b | codellama/CodeLlama-34b-hf | 33.74 |  | {"model_type":"llama", "hidden_size":8192,
  "num_hidden_layers":48, "vocab_size":32000, "num_attention_heads":64, "intermediate_size":22016,
  "num_key_value_heads":8}
codellama-70b | codellama/CodeLlama-70b-hf | 68.98 |  | {"model_type":"llama", "hidden_size":8192,
  "num_hidden_layers":80, "vocab_size":32016, "num_attention_heads":64, "intermediate_size":28672,
  "num_key_value_heads":8}
codellama-7b | codellama/CodeLlama-7b-hf | 6.74 |  | {"model_type":"llama", "hidden_size":4096, "num_hidden_layers":32,
  "vocab_size":32016, "num_attention_heads":32, "intermediate_size":11008}
codestral-22b | mistralai/Codestral-22B-v0.1 | 22.25 |  | {"model_type":"mistral", "hidden_size":6144,
  "num_hidden_layers":56, "vocab_size":32768, "num_attention_heads":48, "intermediate_size":16384,
  "num_key_value_heads":8, "head_dim":128, "sliding_window":null}
command-r | CohereForAI/c4ai-command-r-v01 | 34.98 |  | {"model_type":"cohere", "hidden_size":8192,
  "num_hidden_layers":40, "vocab_size":256000, "num_attention_heads":64, "intermediate_size":22528,
  "num_key_value_heads":64}
command-r-08-2024 | CohereForAI/c4ai-command-r-08-2024 | 32.3 |  | {"model_type":"cohere", "hidden_size":8192,
  "num_hidden_layers":40, "vocab_size":256000, "num_attention_heads":64, "intermediate_size":24576,
  "num_key_value_heads":8}
deepseek-r1-distill-qwen-1.5b | deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B | 1.777 |  | {"model_type":"qwen2",
  "hidden_size":1536, "num_hidden_layers":28, "vocab_size":151936, "num_attention_heads":12, "intermediate_size":8960,
  "num_key_value_heads":2, "tie_word_embeddings":false}
deepseek-v2 | deepseek-ai/DeepSeek-V2 | 235.7 |  | {"model_type":"deepseek_v2", "hidden_size":5120,
  "num_hidden_layers":60, "vocab_size":102400, "num_attention_heads":128, "intermediate_size":12288,
  "moe_intermediate_size":1536, "n_routed_experts":160, "num_experts_per_tok":6, "n_shared_experts":2,
  "first_k_dense_replace":1, "q_lora_rank":1536, "kv_lora_rank":512, "qk_nope_head_dim":128, "qk_rope_head_dim":64,
  "v_head_dim":128}
deepseek-v3.2 | deepseek-ai/DeepSeek-V3.2 | 671.9 | fp8 | {"hidden_size":7168, "model_type":"deepseek_v32",
  "moe_layer_freq":1, "num_hidden_layers":61}
deepseek-v4-flash | deepseek-ai/DeepSeek-V4-Flash | 284 | fp8 | {"hidden_size":4096, "model_type":"deepseek_v4",
  "num_hidden_layers":43, "qk_rope_head_dim":64, "compress_ratios":[0, 0, 4, 128, 4, 128, 4, 128, 4, 128, 4, 128, 4,
  128, 4, 128, 4, 128, 4, 128, 4, 128, 4, 128, 4, 128, 4, 128, 4, 128, 4, 128, 4, 128, 4, 128, 4, 128, 4, 128, 4, 128,
  4, 0]}
deepseek-v4-pro | deepseek-ai/DeepSeek-V4-Pro | 1573 | fp8 | {"hidden_size":7168, "index_topk":1024,
  "model_type":"deepseek_v4", "moe_intermediate_size":3072, "n_routed_experts":384, "num_attention_heads":128,
  "num_hidden_layers":61, "o_groups":16, "q_lora_rank":1536, "qk_rope_head_dim":64, "compress_ratios":[128, 128, 4, 128,
  4, 128, 4, 128, 4, 128, 4, 128, 4, 128, 4, 128, 4, 128, 4, 128, 4, 128, 4, 128, 4, 128, 4, 128, 4, 128, 4, 128, 4,
  128, 4, 128, 4, 128, 4, 128, 4, 128, 4, 128, 4, 128, 4, 128, 4, 128, 4, 128, 4, 128, 4, 128, 4, 128, 4, 128, 4, 0]}
exaone-3.5-7.8b | LGAI-EXAONE/EXAONE-3.5-7.8B-Instruct | 7.82 |  | {"model_type":"exaone", "hidden_size":4096,
  "num_hidden_layers":32, "vocab_size":102400, "num_attention_heads":32, "intermediate_size":14336,
  "num_key_value_heads":8}
falcon-mamba-7b | tiiuae/falcon-mamba-7b | 7.27 |  | {"model_type":"falcon_mamba", "hidden_size":4096,
  "num_hidden_layers":64, "vocab_size":65024, "state_size":16, "intermediate_size":8192, "tie_word_embeddings":false}
falcon3-10b | tiiuae/Falcon3-10B-Base | 10.3 |  | {"model_type":"llama", "hidden_size":3072, "num_hidden_layers":40,
  "vocab_size":131072, "num_attention_heads":12, "intermediate_size":23040, "num_key_value_heads":4, "head_dim":256}
falcon3-7b | tiiuae/Falcon3-7B-Base | 7.46 |  | {"model_type":"llama", "hidden_size":3072, "num_hidden_layers":28,
  "vocab_size":131072, "num_attention_heads":12, "intermediate_size":23040, "num_key_value_heads":4, "head_dim":256}
gemma-2-2b | google/gemma-2-2b | 2.614 |  | {"model_type":"gemma2", "hidden_size":2304, "num_hidden_layers":26,
  "vocab_size":256000, "num_attention_heads":8, "intermediate_size":9216, "num_key_value_heads":4, "head_dim":256,
  "sliding_window":4096}
gemma-2b | google/gemma-2b | 2.506 |  | {"model_type":"gemma", "hidden_size":2048, "num_hidden_layers":18,
  "vocab_size":256000, "num_attention_heads":8, "intermediate_size":16384, "num_key_value_heads":1, "head_dim":256}
gemma-3-1b | google/gemma-3-1b-it | 1.0 |  | {"model_type":"gemma3_text", "hidden_size":1152, "num_hidden_layers":26,
  "vocab_size":262144, "num_attention_heads":4, "intermediate_size":6912, "num_key_value_heads":1, "head_dim":256,
  "sliding_window":512}
gemma-3-270m | google/gemma-3-270m | 0.268 |  | {"model_type":"gemma3_text", "hidden_size":640, "num_hidden_layers":18,
  "vocab_size":262144, "num_attention_heads":4, "intermediate_size":2048, "num_key_value_heads":1, "head_dim":256,
  "sliding_window":512}
gemma-3-4b | google/gemma-3-4b-it | 3.88 |  | {"model_type":"gemma3_text", "hidden_size":2560, "num_hidden_layers":34,
  "vocab_size":262208, "num_attention_heads":8, "intermediate_size":10240, "num_key_value_heads":4, "head_dim":256,
  "sliding_window":1024}
gemma-4-26b-a4b | google/gemma-4-26B-A4B | 25.2 |  | {"attention_k_eq_v":true, "enable_moe_block":true,
  "global_head_dim":512, "hidden_size":2816, "hidden_size_per_layer_input":0, "intermediate_size":2112,
  "model_type":"gemma4_text", "moe_intermediate_size":704, "num_attention_heads":16, "num_experts":128,
  "num_global_key_value_heads":2, "num_hidden_layers":30, "num_key_value_heads":8, "sliding_window":1024,
  "top_k_experts":8}
gemma-4-31b | google/gemma-4-31B | 30.7 |  | {"attention_k_eq_v":true, "global_head_dim":512, "hidden_size":5376,
  "hidden_size_per_layer_input":0, "intermediate_size":21504, "model_type":"gemma4_text", "num_attention_heads":32,
  "num_global_key_value_heads":4, "num_hidden_layers":60, "num_key_value_heads":16, "sliding_window":1024}
gemma-4-e2b | google/gemma-4-E2B | 4.63 |  | {"model_type":"gemma4_text", "hidden_size":1536, "num_hidden_layers":35,
  "vocab_size":262144, "num_attention_heads":8, "intermediate_size":6144, "num_key_value_heads":1, "head_dim":256,
  "sliding_window":512, "hidden_size_per_layer_input":256, "num_kv_shared_layers":20, "use_double_wide_mlp":true,
  "sliding_window_pattern":5}
gemma-4-e4b | google/gemma-4-E4B | 7.46 |  | {"model_type":"gemma4_text", "hidden_size":2560, "num_hidden_layers":42,
  "vocab_size":262144, "num_attention_heads":8, "intermediate_size":10240, "num_key_value_heads":2, "head_dim":256,
  "sliding_window":512, "hidden_size_per_layer_input":256, "num_kv_shared_layers":18}
gemma-7b | google/gemma-7b | 8.54 |  | {"model_type":"gemma", "hidden_size":3072, "num_hidden_layers":28,
  "vocab_size":256000, "num_attention_heads":16, "intermediate_size":24576, "num_key_value_heads":16, "head_dim":256}
glm-4-32b | zai-org/GLM-4-32B-0414 | 32.57 |  | {"model_type":"glm4", "hidden_size":6144, "num_hidden_layers":61,
  "vocab_size":151552, "num_attention_heads":48, "intermediate_size":23040, "num_key_value_heads":2, "head_dim":128}
glm-4-9b | zai-org/GLM-4-9B-0414 | 9.4 |  | {"model_type":"glm4", "hidden_size":4096, "num_hidden_layers":40,
  "vocab_size":151552, "num_attention_heads":32, "intermediate_size":13696, "num_key_value_heads":2, "head_dim":128}
glm-4.5 | zai-org/GLM-4.5 | 352.8 |  | {"model_type":"glm4_moe", "hidden_size":5120, "num_hidden_layers":92,
  "vocab_size":151552, "num_attention_heads":96, "intermediate_size":12288, "num_key_value_heads":8, "head_dim":128,
  "moe_intermediate_size":1536, "n_routed_experts":160, "num_experts_per_tok":8, "n_shared_experts":1,
  "first_k_dense_replace":3}
glm-4.7-flash | zai-org/GLM-4.7-Flash | 29.9 |  | {"model_type":"glm4_moe_lite", "hidden_size":2048,
  "num_hidden_layers":47, "vocab_size":154880, "num_attention_heads":20, "intermediate_size":10240}
glm-5 | zai-org/GLM-5 | 744 |  | {"hidden_size":6144, "moe_layer_freq":1, "model_type":"glm_moe_dsa",
  "num_hidden_layers":78}
glm-5.2 | zai-org/GLM-5.2 | 743 |  | {"head_dim":192, "hidden_size":6144, "index_skip_topk_offset":3,
  "index_topk_freq":4, "model_type":"glm_moe_dsa", "moe_layer_freq":1, "num_hidden_layers":78}
gpt-j-6b | EleutherAI/gpt-j-6b | 6.05 |  | {"model_type":"gptj", "hidden_size":4096, "num_hidden_layers":28,
  "vocab_size":50400, "num_attention_heads":16, "tie_word_embeddings":false}
granite-3.1-2b | ibm-granite/granite-3.1-2b-base | 2.53 |  | {"model_type":"granite", "hidden_size":2048,
  "num_hidden_layers":40, "vocab_size":49152, "num_attention_heads":32, "intermediate_size":8192,
  "num_key_value_heads":8, "tie_word_embeddings":true}
granite-3.1-8b | ibm-granite/granite-3.1-8b-base | 8.17 |  | {"model_type":"granite", "hidden_size":4096,
  "num_hidden_layers":40, "vocab_size":49152, "num_attention_heads":32, "intermediate_size":12800,
  "num_key_value_heads":8, "tie_word_embeddings":true}
jamba-1.5-mini | ai21labs/AI21-Jamba-1.5-Mini | 51.6 |  | {"model_type":"jamba", "hidden_size":4096,
  "num_hidden_layers":32, "vocab_size":65536, "num_attention_heads":32, "intermediate_size":14336,
  "num_key_value_heads":8}
kimi-k3 | moonshotai/Kimi-K3 | 2779 | mxfp4 | {"first_k_dense_replace":1, "hidden_size":7168, "intermediate_size":33792,
  "linear_attn_config":{"full_attn_layers":[4, 8, 12, 16, 20, 24, 28, 32, 36, 40, 44, 48, 52, 56, 60, 64, 68, 72, 76,
  80, 84, 88, 92, 93], "head_dim":128, "num_heads":96, "short_conv_kernel_size":4, "use_full_rank_gate":true},
  "mla_use_output_gate":true, "model_type":"kimi_linear", "moe_intermediate_size":3072, "moe_layer_freq":1,
  "num_attention_heads":96, "num_experts":896, "num_experts_per_token":16, "num_hidden_layers":93,
  "num_key_value_heads":96, "num_shared_experts":2, "q_lora_rank":1536, "routed_expert_hidden_size":3584}
kimi-linear-48b-a3b | moonshotai/Kimi-Linear-48B-A3B-Instruct | 49.1 |  | {"model_type":"kimi_linear",
  "hidden_size":2304, "num_hidden_layers":27, "vocab_size":163840, "num_attention_heads":32}
llama-13b | huggyllama/llama-13b | 13.02 |  | {"model_type":"llama", "hidden_size":5120, "num_hidden_layers":40,
  "vocab_size":32000, "num_attention_heads":40, "intermediate_size":13824}
llama-3-70b | meta-llama/Meta-Llama-3-70B | 70.55 |  | {"model_type":"llama", "hidden_size":8192,
  "num_hidden_layers":80, "vocab_size":128256, "num_attention_heads":64, "intermediate_size":28672,
  "num_key_value_heads":8}
llama-3-8b | meta-llama/Meta-Llama-3-8B | 8.03 |  | {"model_type":"llama", "hidden_size":4096, "num_hidden_layers":32,
  "vocab_size":128256, "num_attention_heads":32, "intermediate_size":14336, "num_key_value_heads":8}
llama-3.1-nemotron-nano-4b | nvidia/Llama-3.1-Nemotron-Nano-4B-v1.1 | 4.51 |  | {"model_type":"llama",
  "hidden_size":3072, "num_hidden_layers":32, "vocab_size":128256, "num_attention_heads":32, "intermediate_size":9216,
  "num_key_value_heads":8, "head_dim":128}
llama-3.3-nemotron-super-49b | nvidia/Llama-3_3-Nemotron-Super-49B-v1 | 49.87 |  |
  {"block_configs":[{"attention":{"n_heads_in_group":8}, "ffn":{"ffn_mult":2.625}}, {"attention":{"n_heads_in_group":8},
  "ffn":{"ffn_mult":5.25}}, {"attention":{"n_heads_in_group":8}, "ffn":{"ffn_mult":5.25}},
  {"attention":{"n_heads_in_group":8}, "ffn":{"ffn_mult":5.25}}, {"attention":{"n_heads_in_group":8},
  "ffn":{"ffn_mult":5.25}}, {"attention":{"n_heads_in_group":8}, "ffn":{"ffn_mult":5.25}}, {"attention":{"no_op":true},
  "ffn":{"ffn_mult":2.625}}, {"attention":{"no_op":true}, "ffn":{"ffn_mult":2.625}},
  {"attention":{"n_heads_in_group":8}, "ffn":{"ffn_mult":5.25}}, {"attention":{"n_heads_in_group":8},
  "ffn":{"ffn_mult":5.25}}, {"attention":{"n_heads_in_group":8}, "ffn":{"ffn_mult":5.25}}, {"attention":{"no_op":true},
  "ffn":{"ffn_mult":3.28125}}, {"attention":{"n_heads_in_group":8}, "ffn":{"ffn_mult":5.25}},
  {"attention":{"n_heads_in_group":8}, "ffn":{"ffn_mult":5.25}}, {"attention":{"n_heads_in_group":8},
  "ffn":{"ffn_mult":5.25}}, {"attention":{"n_heads_in_group":8}, "ffn":{"ffn_mult":5.25}},
  {"attention":{"n_heads_in_group":8}, "ffn":{"ffn_mult":5.25}}, {"attention":{"n_heads_in_group":8},
  "ffn":{"ffn_mult":5.25}}, {"attention":{"n_heads_in_group":8}, "ffn":{"ffn_mult":5.25}},
  {"attention":{"n_heads_in_group":8}, "ffn":{"ffn_mult":5.25}}, {"attention":{"n_heads_in_group":8},
  "ffn":{"ffn_mult":5.25}}, {"attention":{"n_heads_in_group":8}, "ffn":{"ffn_mult":5.25}},
  {"attention":{"n_heads_in_group":8}, "ffn":{"ffn_mult":5.25}}, {"attention":{"n_heads_in_group":8},
  "ffn":{"ffn_mult":5.25}}, {"attention":{"n_heads_in_group":8}, "ffn":{"ffn_mult":5.25}},
  {"attention":{"n_heads_in_group":8}, "ffn":{"ffn_mult":5.25}}, {"attention":{"n_heads_in_group":8},
  "ffn":{"ffn_mult":5.25}}, {"attention":{"n_heads_in_group":8}, "ffn":{"ffn_mult":5.25}},
  {"attention":{"n_heads_in_group":8}, "ffn":{"ffn_mult":5.25}}, {"attention":{"n_heads_in_group":8},
  "ffn":{"ffn_mult":5.25}}, {"attention":{"n_heads_in_group":8}, "ffn":{"ffn_mult":5.25}},
  {"attention":{"n_heads_in_group":8}, "ffn":{"ffn_mult":5.25}}, {"attention":{"n_heads_in_group":8},
  "ffn":{"ffn_mult":5.25}}, {"attention":{"n_heads_in_group":8}, "ffn":{"ffn_mult":5.25}},
  {"attention":{"n_heads_in_group":8}, "ffn":{"ffn_mult":5.25}}, {"attention":{"n_heads_in_group":8},
  "ffn":{"ffn_mult":5.25}}, {"attention":{"n_heads_in_group":8}, "ffn":{"ffn_mult":5.25}},
  {"attention":{"n_heads_in_group":8}, "ffn":{"ffn_mult":5.25}}, {"attention":{"n_heads_in_group":8},
  "ffn":{"ffn_mult":5.25}}, {"attention":{"n_heads_in_group":8}, "ffn":{"ffn_mult":5.25}},
  {"attention":{"n_heads_in_group":8}, "ffn":{"ffn_mult":5.25}}, {"attention":{"n_heads_in_group":8},
  "ffn":{"ffn_mult":5.25}}, {"attention":{"no_op":true}, "ffn":{"ffn_mult":1.3125}}, {"attention":{"no_op":true},
  "ffn":{"ffn_mult":2.625}}, {"attention":{"no_op":true}, "ffn":{"ffn_mult":2.625}}, {"attention":{"no_op":true},
  "ffn":{"ffn_mult":1.3125}}, {"attention":{"no_op":true}, "ffn":{"ffn_mult":5.25}}, {"attention":{"no_op":true},
  "ffn":{"ffn_mult":1.3125}}, {"attention":{"no_op":true}, "ffn":{"ffn_mult":2.625}}, {"attention":{"no_op":true},
  "ffn":{"ffn_mult":1.3125}}, {"attention":{"no_op":true}, "ffn":{"ffn_mult":1.3125}}, {"attention":{"no_op":true},
  "ffn":{"ffn_mult":1.3125}}, {"attention":{"n_heads_in_group":8}, "ffn":{"ffn_mult":5.25}},
  {"attention":{"no_op":true}, "ffn":{"ffn_mult":1.3125}}, {"attention":{"no_op":true}, "ffn":{"ffn_mult":1.0}},
  {"attention":{"no_op":true}, "ffn":{"ffn_mult":1.0}}, {"attention":{"no_op":true}, "ffn":{"ffn_mult":1.3125}},
  {"attention":{"no_op":true}, "ffn":{"ffn_mult":1.0}}, {"attention":{"no_op":true}, "ffn":{"ffn_mult":1.0}},
  {"attention":{"no_op":true}, "ffn":{"ffn_mult":1.0}}, {"attention":{"no_op":true}, "ffn":{"ffn_mult":1.3125}},
  {"attention":{"no_op":true}, "ffn":{"ffn_mult":1.3125}}, {"attention":{"no_op":true}, "ffn":{"ffn_mult":0.5}},
  {"attention":{"no_op":true}, "ffn":{"ffn_mult":0.5}}, {"attention":{"no_op":true}, "ffn":{"ffn_mult":1.0}},
  {"attention":{"no_op":true}, "ffn":{"ffn_mult":1.0}}, {"attention":{"no_op":true}, "ffn":{"ffn_mult":0.5}},
  {"attention":{"no_op":true}, "ffn":{"ffn_mult":0.5}}, {"attention":{"no_op":true}, "ffn":{"ffn_mult":1.0}},
  {"attention":{"no_op":true}, "ffn":{"ffn_mult":0.5}}, {"attention":{"no_op":true}, "ffn":{"ffn_mult":0.5}},
  {"attention":{"n_heads_in_group":8}, "ffn":{"ffn_mult":5.25}}, {"attention":{"n_heads_in_group":8},
  "ffn":{"ffn_mult":5.25}}, {"attention":{"n_heads_in_group":8}, "ffn":{"ffn_mult":5.25}},
  {"attention":{"n_heads_in_group":8}, "ffn":{"ffn_mult":5.25}}, {"attention":{"n_heads_in_group":8},
  "ffn":{"ffn_mult":5.25}}, {"attention":{"n_heads_in_group":8}, "ffn":{"ffn_mult":5.25}},
  {"attention":{"n_heads_in_group":8}, "ffn":{"ffn_mult":5.25}}, {"attention":{"n_heads_in_group":8},
  "ffn":{"ffn_mult":5.25}}, {"attention":{"n_heads_in_group":8}, "ffn":{"ffn_mult":5.25}}], "hidden_size":8192,
  "model_type":"nemotron-nas", "num_attention_heads":64, "num_hidden_layers":80, "vocab_size":128256}
llama-30b | huggyllama/llama-30b | 32.53 |  | {"model_type":"llama", "hidden_size":6656, "num_hidden_layers":60,
  "vocab_size":32000, "num_attention_heads":52, "intermediate_size":17920}
llama-4-maverick | meta-llama/Llama-4-Maverick-17B-128E | 400.7 |  | {"hidden_size":5120, "interleave_moe_layer_step":2,
  "model_type":"llama4_text", "num_hidden_layers":48, "num_local_experts":128}
llama-4-scout | meta-llama/Llama-4-Scout-17B-16E | 107.8 |  | {"hidden_size":5120, "model_type":"llama4_text",
  "num_hidden_layers":48}
llama-65b | huggyllama/llama-65b | 65.29 |  | {"model_type":"llama", "hidden_size":8192, "num_hidden_layers":80,
  "vocab_size":32000, "num_attention_heads":64, "intermediate_size":22016}
llama-7b | huggyllama/llama-7b | 6.74 |  | {"model_type":"llama", "hidden_size":4096, "num_hidden_layers":32,
  "vocab_size":32000, "num_attention_heads":32, "intermediate_size":11008}
mimo-7b | XiaomiMiMo/MiMo-7B-Base | 7.6 |  | {"model_type":"mimo", "num_hidden_layers":36, "hidden_size":4096,
  "num_key_value_heads":8, "head_dim":128, "intermediate_size":11008, "vocab_size":151680, "attention_bias":true,
  "sliding_window":32768, "max_window_layers":32}
mimo-v2-flash | XiaomiMiMo/MiMo-V2-Flash | 309 | fp8 | {"model_type":"mimo_v2_flash", "num_hidden_layers":48,
  "hidden_size":4096, "sliding_window":128, "sliding_window_size":128, "attention_chunk_size":128,
  "swa_num_attention_heads":64, "swa_num_key_value_heads":8, "swa_head_dim":192, "swa_v_head_dim":128,
  "hybrid_layer_pattern":[0, 1, 1, 1, 1, 0, 1, 1, 1, 1, 1, 0, 1, 1, 1, 1, 1, 0, 1, 1, 1, 1, 1, 0, 1, 1, 1, 1, 1, 0, 1,
  1, 1, 1, 1, 0, 1, 1, 1, 1, 1, 0, 1, 1, 1, 1, 1, 0], "moe_layer_freq":[0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
  1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]}
minimax-m1 | MiniMaxAI/MiniMax-M1-80k | 456 |  | {"model_type":"minimax_m1", "hidden_size":6144, "num_hidden_layers":80,
  "vocab_size":200064, "num_attention_heads":64, "intermediate_size":9216, "num_key_value_heads":8, "head_dim":128,
  "num_local_experts":32, "num_experts_per_tok":2, "attn_type_list":[0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0,
  0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1,
  0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1]}
minimax-m2 | MiniMaxAI/MiniMax-M2 | 229 | fp8 | {"model_type":"minimax_m2", "num_hidden_layers":62, "hidden_size":3072}
minimax-m3 | MiniMaxAI/MiniMax-M3 | 427 |  | {"first_k_dense_replace":3, "hidden_size":6144, "model_type":"minimax_m3",
  "moe_intermediate_size":3072, "moe_layer_freq":[0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
  1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1],
  "n_shared_experts":1, "num_hidden_layers":60, "sparse_attention_config":{"sparse_attention_freq":[0, 0, 0, 1, 1, 1, 1,
  1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
  1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]}}
ministral-3-14b | mistralai/Ministral-3-14B-Instruct-2512 | 13.51 |  | {"model_type":"ministral3", "hidden_size":5120,
  "num_hidden_layers":40, "vocab_size":131072, "num_attention_heads":32, "intermediate_size":16384,
  "num_key_value_heads":8, "head_dim":128, "tie_word_embeddings":false}
ministral-3-3b | mistralai/Ministral-3-3B-Instruct-2512 | 3.43 |  | {"model_type":"ministral3", "hidden_size":3072,
  "num_hidden_layers":26, "vocab_size":131072, "num_attention_heads":32, "intermediate_size":9216,
  "num_key_value_heads":8, "head_dim":128, "tie_word_embeddings":true}
ministral-3-8b | mistralai/Ministral-3-8B-Instruct-2512 | 8.49 |  | {"model_type":"ministral3", "hidden_size":4096,
  "num_hidden_layers":34, "vocab_size":131072, "num_attention_heads":32, "intermediate_size":14336,
  "num_key_value_heads":8, "head_dim":128, "tie_word_embeddings":false}
ministral-8b | mistralai/Ministral-8B-Instruct-2410 | 8.02 |  | {"model_type":"mistral", "hidden_size":4096,
  "num_hidden_layers":36, "vocab_size":131072, "num_attention_heads":32, "intermediate_size":12288,
  "num_key_value_heads":8, "head_dim":128, "sliding_window":32768}
mistral-small-22b | mistralai/Mistral-Small-Instruct-2409 | 22.25 |  | {"model_type":"mistral", "hidden_size":6144,
  "num_hidden_layers":56, "vocab_size":32768, "num_attention_heads":48, "intermediate_size":16384,
  "num_key_value_heads":8, "head_dim":128, "sliding_window":null}
nemotron-3-nano-30b-a3b | nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16 | 31.6 |  | {"hidden_size":2688,
  "hybrid_override_pattern":"MEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME", "intermediate_size":1856,
  "mamba_num_heads":64, "model_type":"nemotron_h", "moe_intermediate_size":1856,
  "moe_shared_expert_intermediate_size":3712, "n_routed_experts":128, "num_experts_per_tok":6, "num_hidden_layers":52,
  "num_key_value_heads":2}
nemotron-3-super-120b-a12b | nvidia/NVIDIA-Nemotron-3-Super-120B-A12B-BF16 | 120.6 |  | {"hidden_size":4096,
  "hybrid_override_pattern":"MEMEMEM*EMEMEMEM*EMEMEMEM*EMEMEMEMEM*EMEMEMEMEM*EMEMEMEMEM*EMEMEMEMEM*EMEMEMEM*EMEMEMEME",
  "intermediate_size":2688, "model_type":"nemotron_h", "moe_intermediate_size":2688, "moe_latent_size":1024,
  "moe_shared_expert_intermediate_size":5376, "n_routed_experts":512, "num_experts_per_tok":22, "num_hidden_layers":88,
  "num_key_value_heads":2}
nemotron-3-ultra-550b-a55b | nvidia/NVIDIA-Nemotron-3-Ultra-550B-A55B-BF16 | 550 |  | {"hidden_size":8192,
  "intermediate_size":5120, "layers_block_type":["mamba", "moe", "mamba", "moe", "mamba", "moe", "mamba", "attention",
  "moe", "mamba", "moe", "mamba", "moe", "mamba", "attention", "moe", "mamba", "moe", "mamba", "moe", "mamba", "moe",
  "mamba", "attention", "moe", "mamba", "moe", "mamba", "moe", "mamba", "moe", "mamba", "attention", "moe", "mamba",
  "moe", "mamba", "moe", "mamba", "attention", "moe", "mamba", "moe", "mamba", "moe", "mamba", "moe", "mamba",
  "attention", "moe", "mamba", "moe", "mamba", "moe", "mamba", "moe", "mamba", "attention", "moe", "mamba", "moe",
  "mamba", "moe", "mamba", "attention", "moe", "mamba", "moe", "mamba", "moe", "mamba", "moe", "mamba", "attention",
  "moe", "mamba", "moe", "mamba", "moe", "mamba", "moe", "mamba", "attention", "moe", "mamba", "moe", "mamba", "moe",
  "mamba", "attention", "moe", "mamba", "moe", "mamba", "moe", "mamba", "moe", "mamba", "attention", "moe", "mamba",
  "moe", "mamba", "moe", "mamba", "moe", "mamba", "moe"], "mamba_num_heads":256, "model_type":"nemotron_h",
  "moe_intermediate_size":5120, "moe_latent_size":2048, "moe_shared_expert_intermediate_size":10240,
  "n_routed_experts":512, "num_attention_heads":64, "num_experts_per_tok":22, "num_key_value_heads":2}
nemotron-h-56b | nvidia/Nemotron-H-56B-Base-8K | 56.3 |  | {"attention_head_dim":128, "hidden_size":8192,
  "hybrid_override_pattern":"M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M-",
  "intermediate_size":32768, "mamba_num_heads":256, "model_type":"nemotron_h", "num_attention_heads":64,
  "num_hidden_layers":118, "ssm_state_size":256, "time_step_rank":512}
nemotron-nano-9b-v2 | nvidia/NVIDIA-Nemotron-Nano-9B-v2 | 8.89 |  | {"model_type":"nemotron_h", "hidden_size":4480,
  "num_hidden_layers":56, "vocab_size":131072, "num_attention_heads":40, "intermediate_size":15680,
  "num_key_value_heads":8, "head_dim":128, "mamba_num_heads":128, "mamba_head_dim":80, "n_groups":8,
  "ssm_state_size":128, "conv_kernel":4,
  "hybrid_override_pattern":"M-M-M-MM-M-M-M*-M-M-M*-M-M-M-M*-M-M-M-M*-M-MM-M-M-M-M-M-"}
olmo-2-32b | allenai/OLMo-2-0325-32B | 32.23 |  | {"model_type":"olmo2", "hidden_size":5120, "num_hidden_layers":64,
  "vocab_size":100352, "num_attention_heads":40, "intermediate_size":27648, "num_key_value_heads":8}
olmo-2-7b | allenai/OLMo-2-1124-7B | 7.3 |  | {"model_type":"olmo2", "hidden_size":4096, "num_hidden_layers":32,
  "vocab_size":100352, "num_attention_heads":32, "intermediate_size":11008}
phi-2 | microsoft/phi-2 | 2.78 |  | {"model_type":"phi", "hidden_size":2560, "num_hidden_layers":32, "vocab_size":51200,
  "num_attention_heads":32, "intermediate_size":10240}
phi-3.5-mini | microsoft/Phi-3.5-mini-instruct | 3.82 |  | {"model_type":"phi3", "hidden_size":3072,
  "num_hidden_layers":32, "vocab_size":32064, "num_attention_heads":32, "intermediate_size":8192,
  "sliding_window":262144}
phi-3.5-moe | microsoft/Phi-3.5-MoE-instruct | 41.87 |  | {"model_type":"phimoe", "hidden_size":4096,
  "num_hidden_layers":32, "vocab_size":32064, "num_attention_heads":32, "intermediate_size":6400,
  "num_key_value_heads":8, "num_local_experts":16, "num_experts_per_tok":2}
phi-4-mini | microsoft/Phi-4-mini-instruct | 3.84 |  | {"model_type":"phi3", "hidden_size":3072, "num_hidden_layers":32,
  "vocab_size":200064, "num_attention_heads":24, "intermediate_size":8192, "num_key_value_heads":8,
  "tie_word_embeddings":true, "sliding_window":262144}
pythia-12b | EleutherAI/pythia-12b | 11.85 |  | {"model_type":"gpt_neox", "hidden_size":5120, "num_hidden_layers":36,
  "vocab_size":50688, "num_attention_heads":40, "intermediate_size":20480, "tie_word_embeddings":false}
qwen1.5-110b | Qwen/Qwen1.5-110B | 111.2 |  | {"model_type":"qwen2", "hidden_size":8192, "num_hidden_layers":80,
  "vocab_size":152064, "num_attention_heads":64, "intermediate_size":49152, "num_key_value_heads":8}
qwen1.5-14b | Qwen/Qwen1.5-14B | 14.17 |  | {"model_type":"qwen2", "hidden_size":5120, "num_hidden_layers":40,
  "vocab_size":152064, "num_attention_heads":40, "intermediate_size":13696, "num_key_value_heads":40}
qwen1.5-72b | Qwen/Qwen1.5-72B | 72.29 |  | {"model_type":"qwen2", "hidden_size":8192, "num_hidden_layers":80,
  "vocab_size":152064, "num_attention_heads":64, "intermediate_size":24576, "num_key_value_heads":64}
qwen1.5-7b | Qwen/Qwen1.5-7B | 7.72 |  | {"model_type":"qwen2", "hidden_size":4096, "num_hidden_layers":32,
  "vocab_size":151936, "num_attention_heads":32, "intermediate_size":11008, "num_key_value_heads":32}
qwen2-0.5b | Qwen/Qwen2-0.5B | 0.494 |  | {"model_type":"qwen2", "hidden_size":896, "num_hidden_layers":24,
  "vocab_size":151936, "num_attention_heads":14, "intermediate_size":4864, "num_key_value_heads":2,
  "tie_word_embeddings":true}
qwen2-1.5b | Qwen/Qwen2-1.5B | 1.544 |  | {"model_type":"qwen2", "hidden_size":1536, "num_hidden_layers":28,
  "vocab_size":151936, "num_attention_heads":12, "intermediate_size":8960, "num_key_value_heads":2,
  "tie_word_embeddings":true}
qwen2-57b-a14b | Qwen/Qwen2-57B-A14B | 57.41 |  | {"model_type":"qwen2_moe", "hidden_size":3584, "num_hidden_layers":28,
  "vocab_size":151936, "num_attention_heads":28, "intermediate_size":18944, "num_key_value_heads":4, "num_experts":64,
  "num_experts_per_tok":8, "moe_intermediate_size":2560, "shared_expert_intermediate_size":20480}
qwen2-72b | Qwen/Qwen2-72B | 72.71 |  | {"model_type":"qwen2", "hidden_size":8192, "num_hidden_layers":80,
  "vocab_size":152064, "num_attention_heads":64, "intermediate_size":29568, "num_key_value_heads":8}
qwen2-7b | Qwen/Qwen2-7B | 7.616 |  | {"model_type":"qwen2", "hidden_size":3584, "num_hidden_layers":28,
  "vocab_size":152064, "num_attention_heads":28, "intermediate_size":18944, "num_key_value_heads":4}
qwen2.5-1.5b | Qwen/Qwen2.5-1.5B | 1.54 |  | {"hidden_size":1536, "intermediate_size":8960, "model_type":"qwen2",
  "num_attention_heads":12, "num_hidden_layers":28, "num_key_value_heads":2, "sliding_window":131072,
  "tie_word_embeddings":true}
qwen2.5-3b | Qwen/Qwen2.5-3B | 3.086 |  | {"model_type":"qwen2", "hidden_size":2048, "num_hidden_layers":36,
  "vocab_size":151936, "num_attention_heads":16, "intermediate_size":11008, "num_key_value_heads":2,
  "tie_word_embeddings":true}
qwen3-1.7b | Qwen/Qwen3-1.7B | 1.72 |  | {"hidden_size":2048, "intermediate_size":6144, "model_type":"qwen3",
  "num_attention_heads":16, "num_hidden_layers":28, "num_key_value_heads":8, "sliding_window":null,
  "tie_word_embeddings":true}
qwen3-coder-480b-a35b | Qwen/Qwen3-Coder-480B-A35B-Instruct | 480 |  | {"head_dim":128, "hidden_size":6144,
  "intermediate_size":8192, "max_window_layers":62, "model_type":"qwen3_moe", "moe_intermediate_size":2560,
  "num_attention_heads":96, "num_experts":160, "num_hidden_layers":62, "num_key_value_heads":8, "sliding_window":null}
qwen3-next-80b-a3b | Qwen/Qwen3-Next-80B-A3B-Instruct | 79.7 |  | {"model_type":"qwen3_next", "hidden_size":2048,
  "num_hidden_layers":48, "vocab_size":151936, "num_attention_heads":16}
qwen3-vl-235b-a22b | Qwen/Qwen3-VL-235B-A22B-Instruct | 235.1 |  | {"tie_word_embeddings":false, "head_dim":128,
  "hidden_size":4096, "intermediate_size":12288, "model_type":"qwen3_vl_moe", "moe_intermediate_size":1536,
  "num_attention_heads":64, "num_experts":128, "num_experts_per_tok":8, "num_hidden_layers":94, "num_key_value_heads":4}
qwen3-vl-2b | Qwen/Qwen3-VL-2B-Instruct | 1.72 |  | {"hidden_size":2048, "intermediate_size":6144,
  "model_type":"qwen3_vl", "num_attention_heads":16, "num_hidden_layers":28, "num_key_value_heads":8,
  "tie_word_embeddings":true}
qwen3-vl-30b-a3b | Qwen/Qwen3-VL-30B-A3B-Instruct | 30.5 |  | {"tie_word_embeddings":false, "head_dim":128,
  "hidden_size":2048, "intermediate_size":6144, "model_type":"qwen3_vl_moe", "moe_intermediate_size":768,
  "num_attention_heads":32, "num_experts":128, "num_experts_per_tok":8, "num_hidden_layers":48, "num_key_value_heads":4}
qwen3-vl-32b | Qwen/Qwen3-VL-32B-Instruct | 32.76 |  | {"hidden_size":5120, "intermediate_size":25600,
  "model_type":"qwen3_vl", "num_attention_heads":64, "num_hidden_layers":64, "num_key_value_heads":8}
qwen3-vl-4b | Qwen/Qwen3-VL-4B-Instruct | 4.02 |  | {"hidden_size":2560, "intermediate_size":9728,
  "model_type":"qwen3_vl", "num_hidden_layers":36, "num_key_value_heads":8, "tie_word_embeddings":true}
qwen3-vl-8b | Qwen/Qwen3-VL-8B-Instruct | 8.19 |  | {"hidden_size":4096, "intermediate_size":12288,
  "model_type":"qwen3_vl", "num_hidden_layers":36, "num_key_value_heads":8}
qwen3.5-0.8b | Qwen/Qwen3.5-0.8B | 0.75 |  | {"model_type":"qwen3_5", "hidden_size":1024, "num_hidden_layers":24,
  "vocab_size":248320, "num_attention_heads":8, "intermediate_size":3584, "num_key_value_heads":2,
  "tie_word_embeddings":true, "linear_num_value_heads":16}
qwen3.5-122b-a10b | Qwen/Qwen3.5-122B-A10B | 122 |  | {"attn_output_gate":true, "full_attention_interval":4,
  "hidden_size":3072, "linear_num_value_heads":64, "model_type":"qwen3_5_moe_text", "moe_intermediate_size":1024,
  "num_attention_heads":32, "num_hidden_layers":48, "shared_expert_intermediate_size":1024}
qwen3.5-27b | Qwen/Qwen3.5-27B | 26.9 |  | {"attn_output_gate":true, "full_attention_interval":4, "hidden_size":5120,
  "intermediate_size":17408, "linear_num_value_heads":48, "model_type":"qwen3_5_text", "num_attention_heads":24,
  "num_hidden_layers":64}
qwen3.5-2b | Qwen/Qwen3.5-2B | 1.88 |  | {"model_type":"qwen3_5", "hidden_size":2048, "num_hidden_layers":24,
  "vocab_size":248320, "num_attention_heads":8, "intermediate_size":6144, "num_key_value_heads":2,
  "tie_word_embeddings":true, "linear_num_value_heads":16}
qwen3.5-35b-a3b | Qwen/Qwen3.5-35B-A3B | 34.66 |  | {"attn_output_gate":true, "full_attention_interval":4,
  "hidden_size":2048, "model_type":"qwen3_5_moe_text", "num_hidden_layers":40}
qwen3.5-397b-a17b | Qwen/Qwen3.5-397B-A17B | 397 |  | {"attn_output_gate":true, "full_attention_interval":4,
  "hidden_size":4096, "linear_num_value_heads":64, "model_type":"qwen3_5_moe_text", "moe_intermediate_size":1024,
  "num_attention_heads":32, "num_experts":512, "num_experts_per_tok":10, "num_hidden_layers":60,
  "shared_expert_intermediate_size":1024}
qwen3.5-4b | Qwen/Qwen3.5-4B | 4.2 |  | {"model_type":"qwen3_5", "hidden_size":2560, "num_hidden_layers":32,
  "vocab_size":248320, "num_attention_heads":16, "intermediate_size":9216, "num_key_value_heads":4,
  "tie_word_embeddings":true}
qwen3.5-9b | Qwen/Qwen3.5-9B | 8.95 |  | {"model_type":"qwen3_5", "hidden_size":4096, "num_hidden_layers":32,
  "vocab_size":248320, "num_attention_heads":16, "intermediate_size":12288, "num_key_value_heads":4}
seed-oss-36b | ByteDance-Seed/Seed-OSS-36B-Instruct | 36.15 |  | {"model_type":"seed_oss", "hidden_size":5120,
  "num_hidden_layers":64, "vocab_size":155136, "num_attention_heads":80, "intermediate_size":27648,
  "num_key_value_heads":8, "head_dim":128}
smollm2-1.7b | HuggingFaceTB/SmolLM2-1.7B | 1.71 |  | {"model_type":"llama", "hidden_size":2048, "num_hidden_layers":24,
  "vocab_size":49152, "num_attention_heads":32, "intermediate_size":8192, "tie_word_embeddings":true}
smollm2-135m | HuggingFaceTB/SmolLM2-135M | 0.1345 |  | {"model_type":"llama", "hidden_size":576,
  "num_hidden_layers":30, "vocab_size":49152, "num_attention_heads":9, "intermediate_size":1536,
  "num_key_value_heads":3, "tie_word_embeddings":true}
smollm2-360m | HuggingFaceTB/SmolLM2-360M | 0.362 |  | {"model_type":"llama", "hidden_size":960, "num_hidden_layers":32,
  "vocab_size":49152, "num_attention_heads":15, "intermediate_size":2560, "num_key_value_heads":5,
  "tie_word_embeddings":true}
smollm3-3b | HuggingFaceTB/SmolLM3-3B | 3.075 |  | {"model_type":"smollm3", "hidden_size":2048, "num_hidden_layers":36,
  "vocab_size":128256, "num_attention_heads":16, "intermediate_size":11008, "num_key_value_heads":4,
  "tie_word_embeddings":true}
stablelm-3b | stabilityai/stablelm-3b-4e1t | 2.795 |  | {"model_type":"stablelm", "hidden_size":2560,
  "num_hidden_layers":32, "vocab_size":50304, "num_attention_heads":32, "intermediate_size":6912}
starcoder2-3b | bigcode/starcoder2-3b | 3.03 |  | {"model_type":"starcoder2", "hidden_size":3072,
  "num_hidden_layers":30, "vocab_size":49152, "num_attention_heads":24, "intermediate_size":12288,
  "num_key_value_heads":2, "sliding_window":4096, "tie_word_embeddings":true}
starcoder2-7b | bigcode/starcoder2-7b | 7.17 |  | {"model_type":"starcoder2", "hidden_size":4608,
  "num_hidden_layers":32, "vocab_size":49152, "num_attention_heads":36, "intermediate_size":18432,
  "num_key_value_heads":4, "sliding_window":4096, "tie_word_embeddings":true}
step-3.5-flash | stepfun-ai/Step-3.5-Flash | 196 |  | {"model_type":"step3p7", "num_hidden_layers":45,
  "hidden_size":4096, "num_attention_heads":64, "num_key_value_heads":8, "head_dim":128, "vocab_size":128896,
  "intermediate_size":11264, "sliding_window":512, "layer_types":["full_attention", "sliding_attention",
  "sliding_attention", "sliding_attention", "full_attention", "sliding_attention", "sliding_attention",
  "sliding_attention", "full_attention", "sliding_attention", "sliding_attention", "sliding_attention",
  "full_attention", "sliding_attention", "sliding_attention", "sliding_attention", "full_attention",
  "sliding_attention", "sliding_attention", "sliding_attention", "full_attention", "sliding_attention",
  "sliding_attention", "sliding_attention", "full_attention", "sliding_attention", "sliding_attention",
  "sliding_attention", "full_attention", "sliding_attention", "sliding_attention", "sliding_attention",
  "full_attention", "sliding_attention", "sliding_attention", "sliding_attention", "full_attention",
  "sliding_attention", "sliding_attention", "sliding_attention", "full_attention", "sliding_attention",
  "sliding_attention", "sliding_attention", "full_attention"], "first_k_dense_replace":3, "num_experts":288,
  "num_experts_per_tok":8, "moe_intermediate_size":1280, "share_expert_dim":1280, "n_shared_experts":1}
tinyllama-1.1b | TinyLlama/TinyLlama-1.1B-Chat-v1.0 | 1.1 |  | {"model_type":"llama", "hidden_size":2048,
  "num_hidden_layers":22, "vocab_size":32000, "num_attention_heads":32, "intermediate_size":5632,
  "num_key_value_heads":4}
yi-6b | 01-ai/Yi-6B | 6.06 |  | {"model_type":"llama", "hidden_size":4096, "num_hidden_layers":32, "vocab_size":64000,
  "num_attention_heads":32, "intermediate_size":11008, "num_key_value_heads":4}
yi-9b | 01-ai/Yi-9B | 8.83 |  | {"model_type":"llama", "hidden_size":4096, "num_hidden_layers":48, "vocab_size":64000,
  "num_attention_heads":32, "intermediate_size":11008, "num_key_value_heads":4}
"""
