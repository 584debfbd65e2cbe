"""What transformers' configuration classes take where a config.json is silent, for the fields that are read here.

Written by tools/model_defaults.py from transformers 5.24.0 (Apache-2.0); a test holds it to the installed classes.
"""

from __future__ import annotations

from typing import Any, Final

# model_type: field=value …, of fields whose default is neither null nor zero
_TABLE: Final = """
apertus: intermediate_size=14336 max_position_embeddings=65536 num_attention_heads=32 tie_word_embeddings=False
    vocab_size=131072
arcee: intermediate_size=18432 max_position_embeddings=4096 num_attention_heads=32 tie_word_embeddings=False
    vocab_size=32000
aria_text: intermediate_size=4096 max_position_embeddings=2048 moe_num_experts=8 moe_num_shared_experts=2 moe_topk=2
    num_attention_heads=32 tie_word_embeddings=False vocab_size=32000
axk1: intermediate_size=18432 kv_lora_rank=512 max_position_embeddings=32768 moe_intermediate_size=2048
    n_routed_experts=192 n_shared_experts=1 num_attention_heads=64 num_experts_per_tok=8 num_key_value_heads=64
    q_lora_rank=1536 qk_nope_head_dim=128 qk_rope_head_dim=64 tie_word_embeddings=False v_head_dim=128
    vocab_size=163840
bamba: intermediate_size=14336 mamba_d_conv=4 mamba_d_head=auto mamba_d_state=256 mamba_expand=2 mamba_n_groups=1
    mamba_n_heads=128 max_position_embeddings=262144 num_attention_heads=32 num_key_value_heads=8
    tie_word_embeddings=False vocab_size=128000
bitnet: intermediate_size=6912 max_position_embeddings=2048 num_attention_heads=20 num_key_value_heads=5
    tie_word_embeddings=False vocab_size=128256
bloom: n_head=8 tie_word_embeddings=True vocab_size=250880
cohere: intermediate_size=22528 max_position_embeddings=8192 num_attention_heads=64 tie_word_embeddings=True
    vocab_size=256000
cohere2: intermediate_size=22528 max_position_embeddings=8192 num_attention_heads=64 sliding_window=4096
    tie_word_embeddings=True vocab_size=256000
cohere2_moe: head_dim=128 intermediate_size=22528 max_position_embeddings=8192 num_attention_heads=64 num_experts=8
    num_experts_per_tok=2 sliding_window=4096 sliding_window_pattern=4 tie_word_embeddings=True vocab_size=256000
cwm: head_dim=128 intermediate_size=21504 max_position_embeddings=131072 num_attention_heads=48 num_key_value_heads=8
    sliding_window=8192 tie_word_embeddings=False vocab_size=128256
deepseek_v2: intermediate_size=11008 kv_lora_rank=512 max_position_embeddings=2048 moe_intermediate_size=1407
    n_routed_experts=64 n_shared_experts=2 num_attention_heads=32 q_lora_rank=1536 qk_nope_head_dim=128
    qk_rope_head_dim=64 tie_word_embeddings=False v_head_dim=128 vocab_size=102400
deepseek_v3: first_k_dense_replace=3 intermediate_size=18432 kv_lora_rank=512 max_position_embeddings=4096
    moe_intermediate_size=2048 n_routed_experts=256 n_shared_experts=1 num_attention_heads=128 num_experts_per_tok=8
    num_key_value_heads=128 q_lora_rank=1536 qk_nope_head_dim=128 qk_rope_head_dim=64 tie_word_embeddings=False
    v_head_dim=128 vocab_size=129280
deepseek_v32: first_k_dense_replace=3 head_dim=64 index_head_dim=128 index_n_heads=64 index_topk=2048
    intermediate_size=18432 kv_lora_rank=512 max_position_embeddings=163840 moe_intermediate_size=2048
    n_routed_experts=256 n_shared_experts=1 num_attention_heads=128 num_experts_per_tok=8 num_key_value_heads=128
    q_lora_rank=1536 qk_nope_head_dim=128 qk_rope_head_dim=64 tie_word_embeddings=False v_head_dim=128
    vocab_size=129280
deepseek_v4: hc_mult=4 head_dim=512 index_head_dim=128 index_n_heads=64 index_topk=512 max_position_embeddings=1048576
    moe_intermediate_size=2048 n_routed_experts=256 n_shared_experts=1 num_attention_heads=64 num_experts_per_tok=6
    num_key_value_heads=1 o_groups=8 o_lora_rank=1024 q_lora_rank=1024 sliding_window=128 tie_word_embeddings=False
    vocab_size=129280
diffllama: intermediate_size=8192 max_position_embeddings=2048 num_attention_heads=32 tie_word_embeddings=False
    vocab_size=32000
dots1: intermediate_size=10944 max_position_embeddings=2048 max_window_layers=62 moe_intermediate_size=1408
    num_attention_heads=32 num_key_value_heads=32 sliding_window=4096 tie_word_embeddings=False vocab_size=152064
ernie4_5: head_dim=128 intermediate_size=3072 max_position_embeddings=131072 num_attention_heads=16
    num_key_value_heads=2 tie_word_embeddings=True vocab_size=103424
ernie4_5_moe: intermediate_size=12288 max_position_embeddings=131072 moe_intermediate_size=1536 moe_k=6
    moe_layer_interval=1 moe_layer_start_index=1 moe_num_experts=64 moe_num_shared_experts=2 num_attention_heads=20
    num_key_value_heads=4 tie_word_embeddings=True vocab_size=103424
exaone: intermediate_size=14336 max_position_embeddings=4096 num_attention_heads=32 num_key_value_heads=8
    tie_word_embeddings=False vocab_size=102400
exaone4: intermediate_size=16384 max_position_embeddings=2048 num_attention_heads=32 num_key_value_heads=32
    sliding_window=4096 sliding_window_pattern=4 tie_word_embeddings=False vocab_size=102400
exaone_moe: first_k_dense_replace=1 intermediate_size=16384 max_position_embeddings=2048 moe_intermediate_size=1024
    num_attention_heads=32 num_experts=64 num_experts_per_tok=8 num_key_value_heads=32 num_shared_experts=1
    sliding_window=4096 sliding_window_pattern=4 tie_word_embeddings=False vocab_size=102400
falcon: max_position_embeddings=2048 multi_query=True num_attention_heads=71 tie_word_embeddings=True vocab_size=65024
falcon_h1: intermediate_size=14336 mamba_d_conv=4 mamba_d_head=auto mamba_d_ssm=1024 mamba_d_state=256 mamba_expand=2
    mamba_n_groups=1 mamba_n_heads=128 mamba_rms_norm=False max_position_embeddings=8192 num_attention_heads=32
    num_key_value_heads=8 tie_word_embeddings=False vocab_size=128000
falcon_mamba: conv_kernel=4 expand=2 state_size=16 tie_word_embeddings=True time_step_rank=auto vocab_size=50280
flex_olmo: intermediate_size=11008 max_position_embeddings=4096 num_attention_heads=32 num_experts=7
    num_experts_per_tok=5 tie_word_embeddings=False vocab_size=100352
gemma: head_dim=256 intermediate_size=24576 max_position_embeddings=8192 num_attention_heads=16 num_key_value_heads=16
    tie_word_embeddings=True vocab_size=256000
gemma2: head_dim=256 intermediate_size=9216 max_position_embeddings=8192 num_attention_heads=8 num_key_value_heads=4
    sliding_window=4096 tie_word_embeddings=True vocab_size=256000
gemma3_text: head_dim=256 intermediate_size=9216 max_position_embeddings=131072 num_attention_heads=8
    num_key_value_heads=4 sliding_window=4096 tie_word_embeddings=True vocab_size=262208
gemma4_text: head_dim=256 hidden_size_per_layer_input=256 intermediate_size=9216 max_position_embeddings=131072
    num_attention_heads=8 num_key_value_heads=4 sliding_window=512 tie_word_embeddings=True vocab_size=262144
    vocab_size_per_layer_input=262144
glm: attention_bias=True head_dim=128 intermediate_size=13696 max_position_embeddings=131072 num_attention_heads=32
    num_key_value_heads=2 tie_word_embeddings=False vocab_size=151552
glm4: attention_bias=True head_dim=128 intermediate_size=13696 max_position_embeddings=131072 num_attention_heads=32
    num_key_value_heads=2 tie_word_embeddings=False vocab_size=151552
glm4_moe: first_k_dense_replace=1 intermediate_size=10944 max_position_embeddings=131072 moe_intermediate_size=1408
    n_routed_experts=128 n_shared_experts=1 num_attention_heads=96 num_experts_per_tok=8 num_key_value_heads=8
    tie_word_embeddings=False vocab_size=151552
glm4_moe_lite: intermediate_size=10240 kv_lora_rank=512 max_position_embeddings=202752 moe_intermediate_size=1536
    n_routed_experts=64 n_shared_experts=1 num_attention_heads=20 num_experts_per_tok=4 num_key_value_heads=20
    q_lora_rank=768 qk_nope_head_dim=192 qk_rope_head_dim=64 tie_word_embeddings=False v_head_dim=256
    vocab_size=154880
glm4v_moe_text: attention_bias=True first_k_dense_replace=1 intermediate_size=10944 max_position_embeddings=65536
    moe_intermediate_size=1408 n_routed_experts=128 n_shared_experts=1 num_attention_heads=96 num_experts_per_tok=8
    num_key_value_heads=8 tie_word_embeddings=False vocab_size=151424
glm_moe_dsa: first_k_dense_replace=3 head_dim=64 index_head_dim=128 index_n_heads=32 index_topk=2048
    intermediate_size=12288 kv_lora_rank=512 max_position_embeddings=202752 moe_intermediate_size=2048
    n_routed_experts=256 n_shared_experts=1 num_attention_heads=64 num_experts_per_tok=8 num_key_value_heads=64
    q_lora_rank=2048 qk_nope_head_dim=192 qk_rope_head_dim=64 tie_word_embeddings=False v_head_dim=256
    vocab_size=154880
gpt2: n_head=12 n_positions=1024 tie_word_embeddings=True vocab_size=50257
gpt_bigcode: multi_query=True n_head=12 n_positions=1024 tie_word_embeddings=True vocab_size=50257
gpt_neox: attention_bias=True intermediate_size=24576 max_position_embeddings=2048 num_attention_heads=64
    tie_word_embeddings=False vocab_size=50432
gpt_neox_japanese: max_position_embeddings=2048 num_attention_heads=32 tie_word_embeddings=True vocab_size=32000
gpt_oss: attention_bias=True head_dim=64 intermediate_size=2880 max_position_embeddings=131072 num_attention_heads=64
    num_experts_per_tok=4 num_key_value_heads=8 num_local_experts=128 sliding_window=128 tie_word_embeddings=False
    vocab_size=201088
gptj: n_head=16 n_positions=2048 tie_word_embeddings=False vocab_size=50400
granite: intermediate_size=11008 max_position_embeddings=2048 num_attention_heads=32 tie_word_embeddings=False
    vocab_size=32000
granite_swa: intermediate_size=8192 max_position_embeddings=8192 num_attention_heads=20 num_key_value_heads=4
    sliding_window=128 tie_word_embeddings=True vocab_size=100352
granitemoe: intermediate_size=11008 max_position_embeddings=2048 num_attention_heads=32 num_experts_per_tok=2
    num_local_experts=8 tie_word_embeddings=False vocab_size=32000
granitemoe_swa: intermediate_size=11008 max_position_embeddings=2048 num_attention_heads=32 num_experts_per_tok=2
    num_local_experts=8 sliding_window=128 tie_word_embeddings=False vocab_size=32000
granitemoehybrid: intermediate_size=11008 mamba_d_conv=4 mamba_d_head=auto mamba_d_state=256 mamba_expand=2
    mamba_n_groups=1 mamba_n_heads=128 max_position_embeddings=2048 num_attention_heads=32 num_experts_per_tok=2
    num_local_experts=8 shared_intermediate_size=1024 tie_word_embeddings=False vocab_size=32000
granitemoeshared: intermediate_size=11008 max_position_embeddings=2048 num_attention_heads=32 num_experts_per_tok=2
    num_local_experts=8 tie_word_embeddings=False vocab_size=32000
helium: head_dim=128 intermediate_size=7040 max_position_embeddings=4096 num_attention_heads=20 num_key_value_heads=20
    tie_word_embeddings=False vocab_size=48000
hunyuan_v1_dense: intermediate_size=11008 max_position_embeddings=2048 num_attention_heads=32
    tie_word_embeddings=False vocab_size=290943
hy_v3: head_dim=128 intermediate_size=13312 max_position_embeddings=131072 moe_intermediate_size=1536
    num_attention_heads=64 num_experts=192 num_experts_per_tok=8 num_key_value_heads=8 num_shared_experts=1
    tie_word_embeddings=False vocab_size=120832
hyperclovax: intermediate_size=11008 max_position_embeddings=2048 num_attention_heads=32 tie_word_embeddings=False
    vocab_size=32000
internlm3: head_dim=128 intermediate_size=10240 max_position_embeddings=32768 num_attention_heads=32
    num_key_value_heads=2 tie_word_embeddings=False vocab_size=128512
jais2: attention_bias=True intermediate_size=26624 max_position_embeddings=8192 num_attention_heads=26
    tie_word_embeddings=False vocab_size=150272
jamba: attn_layer_offset=4 attn_layer_period=8 expert_layer_offset=1 expert_layer_period=2 intermediate_size=14336
    mamba_d_conv=4 mamba_d_state=16 mamba_dt_rank=auto mamba_expand=2 max_position_embeddings=262144
    num_attention_heads=32 num_experts=16 num_experts_per_tok=2 num_key_value_heads=8 tie_word_embeddings=False
    vocab_size=65536
kimi_linear: intermediate_size=9216 kv_lora_rank=512 linear_conv_kernel_dim=4 max_position_embeddings=1048576
    moe_intermediate_size=1024 n_shared_experts=1 num_attention_heads=32 num_experts_per_tok=8 num_key_value_heads=32
    num_local_experts=256 qk_nope_head_dim=128 qk_rope_head_dim=64 tie_word_embeddings=False v_head_dim=128
    vocab_size=163840
laguna: head_dim=128 intermediate_size=8192 max_position_embeddings=131072 moe_intermediate_size=512
    num_attention_heads=48 num_experts=256 num_experts_per_tok=8 num_key_value_heads=8
    shared_expert_intermediate_size=512 sliding_window=512 tie_word_embeddings=False vocab_size=100352
lfm2: block_auto_adjust_ff_dim=True block_ffn_dim_multiplier=1 block_multiple_of=256 conv_L_cache=3
    intermediate_size=12288 max_position_embeddings=128000 num_attention_heads=32 num_key_value_heads=8
    tie_word_embeddings=True vocab_size=65536
lfm2_moe: conv_L_cache=3 intermediate_size=7168 max_position_embeddings=128000 moe_intermediate_size=1792
    num_attention_heads=32 num_dense_layers=2 num_experts=32 num_experts_per_tok=4 num_key_value_heads=8
    tie_word_embeddings=True vocab_size=65536
llama: intermediate_size=11008 max_position_embeddings=2048 num_attention_heads=32 tie_word_embeddings=False
    vocab_size=32000
llama4_text: attention_chunk_size=8192 head_dim=128 interleave_moe_layer_step=1 intermediate_size=8192
    intermediate_size_mlp=16384 max_position_embeddings=131072 no_rope_layer_interval=4 num_attention_heads=40
    num_experts_per_tok=1 num_key_value_heads=8 num_local_experts=16 tie_word_embeddings=False vocab_size=202048
mamba: conv_kernel=4 expand=2 state_size=16 tie_word_embeddings=True time_step_rank=auto vocab_size=50280
mamba2: conv_kernel=4 expand=2 head_dim=64 n_groups=8 num_heads=128 state_size=128 tie_word_embeddings=False
    time_step_rank=auto vocab_size=32768
mellum: head_dim=128 intermediate_size=7168 max_position_embeddings=131072 moe_intermediate_size=896
    num_attention_heads=32 num_experts=64 num_experts_per_tok=8 num_key_value_heads=4 sliding_window=1024
    tie_word_embeddings=False vocab_size=98304
mimo_v2_flash: head_dim=192 intermediate_size=16384 max_position_embeddings=131072 moe_intermediate_size=2048
    n_routed_experts=256 num_attention_heads=64 num_experts_per_tok=8 num_key_value_heads=4 sliding_window=129
    tie_word_embeddings=False v_head_dim=128 vocab_size=152576
minicpm3: intermediate_size=6400 kv_lora_rank=256 max_position_embeddings=32768 num_attention_heads=40
    num_key_value_heads=40 q_lora_rank=768 qk_nope_head_dim=64 qk_rope_head_dim=32 tie_word_embeddings=True
    vocab_size=73448
minimax: block_size=256 intermediate_size=14336 max_position_embeddings=131072 num_attention_heads=32
    num_experts_per_tok=2 num_key_value_heads=8 num_local_experts=8 tie_word_embeddings=False vocab_size=32000
minimax_m2: head_dim=128 intermediate_size=1536 max_position_embeddings=196608 num_attention_heads=48
    num_experts_per_tok=8 num_key_value_heads=8 num_local_experts=256 tie_word_embeddings=False vocab_size=200064
minimax_m3_vl_text: dense_intermediate_size=12288 head_dim=128 index_block_size=128 index_head_dim=128 index_n_heads=4
    index_topk_blocks=16 intermediate_size=3072 max_position_embeddings=524288 num_attention_heads=64
    num_experts_per_tok=4 num_key_value_heads=4 num_local_experts=128 shared_intermediate_size=3072
    tie_word_embeddings=False vocab_size=200064
ministral: intermediate_size=14336 max_position_embeddings=131072 num_attention_heads=32 num_key_value_heads=8
    sliding_window=4096 tie_word_embeddings=False vocab_size=32000
ministral3: head_dim=128 intermediate_size=14336 max_position_embeddings=262144 num_attention_heads=32
    num_key_value_heads=8 tie_word_embeddings=False vocab_size=131072
mistral: intermediate_size=14336 max_position_embeddings=131072 num_attention_heads=32 num_key_value_heads=8
    sliding_window=4096 tie_word_embeddings=False vocab_size=32000
mistral4: intermediate_size=12288 kv_lora_rank=256 max_position_embeddings=1048576 moe_intermediate_size=2048
    n_routed_experts=128 n_shared_experts=1 num_attention_heads=32 num_experts_per_tok=4 num_key_value_heads=32
    q_lora_rank=1024 qk_nope_head_dim=64 qk_rope_head_dim=64 tie_word_embeddings=False v_head_dim=128
    vocab_size=131072
mixtral: intermediate_size=14336 max_position_embeddings=131072 num_attention_heads=32 num_experts_per_tok=2
    num_key_value_heads=8 num_local_experts=8 tie_word_embeddings=False vocab_size=32000
mpt: n_heads=16 tie_word_embeddings=True vocab_size=50368
nemotron: intermediate_size=24576 max_position_embeddings=4096 num_attention_heads=48 tie_word_embeddings=False
    vocab_size=256000
nemotron_h: conv_kernel=4 expand=2 head_dim=128 intermediate_size=21504 mamba_head_dim=64 mamba_num_heads=128
    max_position_embeddings=4096 moe_intermediate_size=7688 moe_shared_expert_intermediate_size=7688 n_groups=8
    n_routed_experts=8 n_shared_experts=1 num_attention_heads=32 num_experts_per_tok=2 num_key_value_heads=8
    ssm_state_size=128 tie_word_embeddings=False vocab_size=131072
olmo: intermediate_size=11008 max_position_embeddings=2048 num_attention_heads=32 tie_word_embeddings=False
    vocab_size=50304
olmo2: intermediate_size=11008 max_position_embeddings=2048 num_attention_heads=32 tie_word_embeddings=False
    vocab_size=50304
olmo3: intermediate_size=11008 max_position_embeddings=2048 num_attention_heads=32 sliding_window=4096
    tie_word_embeddings=False vocab_size=50304
olmoe: intermediate_size=2048 max_position_embeddings=4096 num_attention_heads=16 num_experts=64 num_experts_per_tok=8
    tie_word_embeddings=False vocab_size=50304
opt: ffn_dim=3072 max_position_embeddings=2048 num_attention_heads=12 tie_word_embeddings=True vocab_size=50272
persimmon: intermediate_size=16384 max_position_embeddings=16384 num_attention_heads=64 tie_word_embeddings=False
    vocab_size=262144
phi: intermediate_size=8192 max_position_embeddings=2048 num_attention_heads=32 tie_word_embeddings=False
    vocab_size=51200
phi3: intermediate_size=8192 max_position_embeddings=4096 num_attention_heads=32 tie_word_embeddings=False
    vocab_size=32064
phimoe: intermediate_size=6400 max_position_embeddings=131072 num_attention_heads=32 num_experts_per_tok=2
    num_key_value_heads=8 num_local_experts=16 tie_word_embeddings=False vocab_size=32064
qwen2: intermediate_size=22016 max_position_embeddings=32768 max_window_layers=28 num_attention_heads=32
    num_key_value_heads=32 sliding_window=4096 tie_word_embeddings=False use_sliding_window=False vocab_size=151936
qwen2_5_vl_text: intermediate_size=29568 max_position_embeddings=32768 max_window_layers=80 num_attention_heads=64
    num_key_value_heads=8 sliding_window=4096 use_sliding_window=False vocab_size=152064
qwen2_moe: decoder_sparse_step=1 intermediate_size=5632 max_position_embeddings=32768 max_window_layers=28
    moe_intermediate_size=1408 num_attention_heads=16 num_experts=60 num_experts_per_tok=4 num_key_value_heads=16
    qkv_bias=True shared_expert_intermediate_size=5632 sliding_window=4096 tie_word_embeddings=False
    use_sliding_window=False vocab_size=151936
qwen2_vl_text: intermediate_size=29568 max_position_embeddings=32768 max_window_layers=80 num_attention_heads=64
    num_key_value_heads=8 sliding_window=4096 use_sliding_window=False vocab_size=152064
qwen3: head_dim=128 intermediate_size=22016 max_position_embeddings=32768 max_window_layers=28 num_attention_heads=32
    num_key_value_heads=32 sliding_window=4096 tie_word_embeddings=False use_sliding_window=False vocab_size=151936
qwen3_5_moe_text: head_dim=256 linear_conv_kernel_dim=4 linear_key_head_dim=128 linear_num_key_heads=16
    linear_num_value_heads=32 linear_value_head_dim=128 max_position_embeddings=32768 moe_intermediate_size=512
    num_attention_heads=16 num_experts=256 num_experts_per_tok=8 num_key_value_heads=2
    shared_expert_intermediate_size=512 tie_word_embeddings=False vocab_size=248320
qwen3_5_text: head_dim=256 intermediate_size=12288 linear_conv_kernel_dim=4 linear_key_head_dim=128
    linear_num_key_heads=16 linear_num_value_heads=32 linear_value_head_dim=128 max_position_embeddings=32768
    num_attention_heads=16 num_key_value_heads=4 tie_word_embeddings=False vocab_size=248320
qwen3_moe: decoder_sparse_step=1 intermediate_size=6144 max_position_embeddings=32768 moe_intermediate_size=768
    num_attention_heads=32 num_experts=128 num_experts_per_tok=8 num_key_value_heads=4 sliding_window=4096
    tie_word_embeddings=False use_sliding_window=False vocab_size=151936
qwen3_next: decoder_sparse_step=1 head_dim=256 intermediate_size=5632 linear_conv_kernel_dim=4 linear_key_head_dim=128
    linear_num_key_heads=16 linear_num_value_heads=32 linear_value_head_dim=128 max_position_embeddings=32768
    moe_intermediate_size=512 num_attention_heads=16 num_experts=512 num_experts_per_tok=10 num_key_value_heads=2
    shared_expert_intermediate_size=512 tie_word_embeddings=False vocab_size=151936
qwen3_vl_moe_text: decoder_sparse_step=1 intermediate_size=5632 max_position_embeddings=128000
    moe_intermediate_size=1408 num_attention_heads=16 num_experts=60 num_experts_per_tok=4 num_key_value_heads=16
    tie_word_embeddings=True vocab_size=151936
qwen3_vl_text: head_dim=128 intermediate_size=22016 max_position_embeddings=128000 num_attention_heads=32
    num_key_value_heads=32 vocab_size=151936
sarvam_mla: first_k_dense_replace=1 intermediate_size=16384 kv_lora_rank=512 max_position_embeddings=4096
    moe_intermediate_size=2048 n_routed_experts=128 n_shared_experts=1 num_attention_heads=64 num_experts_per_tok=8
    qk_nope_head_dim=128 qk_rope_head_dim=64 tie_word_embeddings=False v_head_dim=128 vocab_size=262144
sarvam_moe: first_k_dense_replace=1 head_dim=64 intermediate_size=8192 max_position_embeddings=131072
    moe_intermediate_size=1024 n_routed_experts=128 n_shared_experts=1 num_attention_heads=64 num_experts_per_tok=6
    num_key_value_heads=4 tie_word_embeddings=False vocab_size=262144
seed_oss: attention_bias=True head_dim=128 intermediate_size=27648 max_position_embeddings=524288
    num_attention_heads=80 num_key_value_heads=8 tie_word_embeddings=False vocab_size=155136
smollm3: intermediate_size=11008 max_position_embeddings=32768 no_rope_layer_interval=4 num_attention_heads=16
    num_key_value_heads=4 tie_word_embeddings=True use_sliding_window=False vocab_size=128256
stablelm: intermediate_size=6912 max_position_embeddings=4096 num_attention_heads=32 num_key_value_heads=32
    tie_word_embeddings=False vocab_size=50304
starcoder2: intermediate_size=12288 max_position_embeddings=4096 num_attention_heads=24 num_key_value_heads=2
    tie_word_embeddings=True use_bias=True vocab_size=49152
step3p5: head_dim=128 intermediate_size=11264 max_position_embeddings=128000 moe_intermediate_size=1280
    n_routed_experts=288 num_attention_heads=64 num_experts_per_tok=8 num_key_value_heads=8 num_local_experts=128
    share_expert_dim=1280 tie_word_embeddings=False vocab_size=128815
vaultgemma: head_dim=256 intermediate_size=9216 max_position_embeddings=8192 num_attention_heads=8
    num_key_value_heads=4 sliding_window=4096 tie_word_embeddings=True vocab_size=256000
youtu: intermediate_size=6144 kv_lora_rank=512 max_position_embeddings=131072 num_attention_heads=16
    num_key_value_heads=16 q_lora_rank=1536 qk_nope_head_dim=128 qk_rope_head_dim=64 tie_word_embeddings=True
    v_head_dim=128 vocab_size=128256
"""


def _value(text: str) -> Any:
    if text in ("True", "False"):
        return text == "True"
    try:
        return int(text)
    except ValueError:
        return text


def _parsed() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for entry in _TABLE.replace("\n    ", " ").strip().splitlines():
        kind, _, fields = entry.partition(":")
        found[kind] = {key: _value(value) for key, _, value in (word.partition("=") for word in fields.split())}
    return found


DEFAULTS: Final = _parsed()
