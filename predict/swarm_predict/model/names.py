"""Find the model whose shape a name means, as people write model names.

Hugging Face ids with suffixes and other publishers' copies, Ollama's tags, names on a monitor: what changes no shape
(instruct, dates, formats) is dropped and the rest is looked up. A fine-tune is found by the name of its base inside its
own; words that change a shape (draft, vision, pruned) make it unknown. A format in the name is the default.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

# Words that change no shape of the language model, and words that do.
_NEUTRAL: Final = frozenset(
    """
    128k 16k 1m 256k 32k 4k 4m 64k 8k abliterated autoround awq base base2 bf16 bit block bnb chat community dpo
    dq3 dq4 dq4plus dynamic exl exl2 exl3 exp f16 float8 fp16 fp32 fp8 g128 g32 g64 ggml gguf gptq gs128 gs32
    gs64 heretic hf hqq hybrid2 i1 imatrix instruct instruct2 int4 int8 it l large2 latest lmstudio m marlin
    meta mlx mtp mxfp4 nvfp4 nvidia offline ollama online oq8 orpo per pertensor preview pt q3 q4 q6 q8 qat
    quant quantized reasoning rlhf s safeguard sft speciale static tensor terminus text thinking torchao tput
    turbo ud ultralong uncensored unsloth w4 w4a16 w8a16 w8a8 xl
    """.split()  # noqa: SIM905 - a list would be a page long
)
_CHANGES: Final = frozenset(
    """
    adapter asr audio classifier depth dflash draft eagle eagle3 embed embedding guard lite llava lora medusa
    mini minitron mm moe nano nas ocr omni pruned rerank reranker reward rm speculator tiny tts v vision vl vlm
    width
    """.split()  # noqa: SIM905 - a list would be a page long
)
# patterns are compiled by their first use: a name as the catalogue writes it needs none
_FORMAT: Final = (
    r"(?<![a-z0-9])(?:(?:ud-)?(?:iq|q|tq)\d(?:_(?:k|0|1|s|m|l|xs|xxs|nl|xl))+|bf16|fp16|f16|fp8|nvfp4|mxfp4|awq|gptq"
    r"|\d\.\d+bpw|w4a16|w8a8|int4|int8|nf4)(?![a-z0-9])"
)
MAX_CHARACTERS: Final = 64  # of a model's name in a message to the collector
OLLAMA_USUAL: Final = "q4_k_m"  # what a tag without a format is, for nearly all models
_MLX_BITS: Final = r"(?:^|[-_])(\d)-?bits?(?=$|[-_])"
_SIZE: Final = r"\d+(?:\.\d+)?[bmt]|\d+x\d+b|a\d+(?:\.\d+)?b|e\d+b"
_DATE: Final = r"(?:20)?2[3-9](?:0[1-9]|1[0-2])(?:[0-3]\d)?|0[1-9][0-3]\d|1[0-2][0-3]\d"
_FAMILY: Final = (r"^(llama|qwen|gemma|phi|mistral|mixtral|glm|granite|olmo|falcon|smollm|gemma|yi|codellama|"
                            r"command|deepseek|starcoder|internlm|exaone|stablelm|kimi|minimax|mimo|step|ministral)"
                            r"(\d.*)$")  # fmt: skip

# model = other names of its shape, as `key_of` writes them.
_ALIASES: Final = """
bloom = bloom 176b, bloomz, bloomz 176b
bloom 7b1 = bloomz 7b1
codellama 7b = codellama
codestral 22b = codestral
command r = c 4ai command r, c4ai command r, command r 35b
command r plus = c4ai command r plus, c4ai command r plus 08 2024, command r 104b, command r plus 104b
deepseek r1 = deepseek r1 671b
deepseek r1 distill qwen 1.5b = deepseek r1 1.5b
deepseek v2 = deepseek coder v2, deepseek v2 236b, deepseek v2.5
deepseek v2 lite = deepseek coder v2 16b, deepseek coder v2 lite, deepseek v2 16b
deepseek v3 = deepseek v3 671b, deepseek v3.1, deepseek v3.1 671b
falcon 180b = falcon 180 b
gemma 2 9b = gemma 2
gemma 3 4b = gemma 3
gemma 4 26b a4b = gemma 4 26b
gemma 4 e4b = gemma 4
glm 4.5 = glm 4.5 355b a32b, glm 4.6, glm 4.7
glm 5 = glm 5.1
glm 5.2 = glm 5.3
gpt oss 20b = gpt oss
kimi k2 = kimi k2 1t, kimi k2.5, kimi k2.6, kimi k2.7, kimi k2.7 code
kimi linear 48b a3b = kimi linear 48b
llama 13b = guanaco 13b
llama 2 13b = vicuna 13b
llama 2 70b = beluga 2 70b, llama 2 70b beluga, stablebeluga 2, stablebeluga2
llama 2 7b = llama 2, vicuna 7b
llama 3 8b = llama 3
llama 3.1 70b = llama 3.1 nemotron 70b
llama 3.1 8b = deepseek r1 distill llama 8b, llama 3.1, llama 3.1 nemotron 8b
llama 3.2 3b = llama 3.2
llama 3.3 70b = deepseek r1 70b, deepseek r1 distill llama 70b, llama 3.3
llama 3.3 nemotron super 49b = llama 3 3 nemotron super 49b, llama 3.3 nemotron super 49b v1.5
llama 30b = guanaco 33b, llama 33b
llama 4 maverick = llama 4 128x17b, llama 4 maverick 17b 128e
llama 4 scout = llama 4, llama 4 16x17b, llama 4 scout 17b 16e
llama 65b = guanaco 65b, llama 65b hf
llama 7b = guanaco 7b
mimo v2 flash = mimo v2
minimax m2 = minimax m2.1, minimax m2.5, minimax m2.7
mistral 7b = mathstral 7b, mistral, openhermes 2.5 mistral 7b, zephyr 7b
mistral large 123b = mistral large
mistral nemo 12b = mistral nemo
mistral small 24b = devstral 24b, devstral small, devstral small 24b, magistral 24b, magistral small, mistral small,
  mistral small 3.1 24b, mistral small 3.2 24b
mixtral 8x7b = mixtral
nemotron 3 nano 30b a3b = nemotron 3 nano, nemotron 3 nano 30b, nemotron 3.5 lightning 30b a3b
nemotron 3 super 120b a12b = nemotron 3 super, nemotron 3 super 120b
nemotron nano 9b v2 = nemotron nano 9b
olmo 2 13b = olmo 2 1124 13b
olmo 2 32b = olmo 2 0325 32b
olmo 2 7b = olmo 2 1124 7b
phi 3 medium = phi 3 14b
phi 3 mini = phi 3, phi 3 3.8b
phi 3.5 mini = phi 3.5, phi 3.5 3.8b
phi 4 = phi 4 14b, phi 4 plus
phi 4 mini = phi 4 mini 3.8b
qwen 2.5 14b = deepseek r1 14b, deepseek r1 distill qwen 14b
qwen 2.5 32b = deepseek r1 32b, deepseek r1 distill qwen 32b, qwq, qwq 32b
qwen 2.5 7b = deepseek r1 7b, deepseek r1 distill qwen 7b, qwen 2.5
qwen 3 235b a22b = qwen 3 235b
qwen 3 30b a3b = qwen 3 30b, qwen 3 coder, qwen 3 coder 30b, qwen 3 coder 30b a3b
qwen 3 8b = deepseek r1 8b, deepseek r1 qwen 3 8b, qwen 3
qwen 3 coder 480b a35b = qwen 3 coder 480b
qwen 3 next 80b a3b = qwen 3 coder next, qwen 3 next 80b
qwen 3 vl 235b a22b = qwen 3 vl 235b
qwen 3 vl 30b a3b = qwen 3 vl 30b
qwen 3.5 122b a10b = qwen 3.5 122b
qwen 3.5 27b = qwen 3.6 27b
qwen 3.5 35b a3b = qwen 3.5 35b, qwen 3.6 35b, qwen 3.6 35b a3b
qwen 3.5 397b a17b = qwen 3.5 397b
qwen 3.5 9b = qwen 3.5
smollm 2 1.7b = smollm 2
starcoder 2 3b = starcoder 2
step 3.5 flash = step 3.7 flash
tinyllama 1.1b = tinyllama
"""


def _aliases() -> dict[str, str]:
    found: dict[str, str] = {}
    for line in _ALIASES.replace("\n  ", " ").strip().splitlines():
        key, _, others = line.partition(" = ")
        found |= dict.fromkeys(others.split(", "), key)
    return found


ALIASES: Final = _aliases()


class Found(msgspec.Struct, frozen=True):
    key: str  # of the model whose shape it has
    base_inside: bool  # a fine-tune, known by its base's name inside its own
    weights: str  # the format that the name says; empty: none


def kept(name: str) -> str:
    """Return a name as results show it: as given, without its publisher where it is longer than messages carry."""
    name = name.strip()
    return name if len(name) <= MAX_CHARACTERS else name.rsplit("/", 1)[-1][:MAX_CHARACTERS]


def key_of(name: str) -> str:
    """Return what a name says of a shape: words in order, versions apart from families, nothing that changes no
    shape."""
    return " ".join(_words(name))


def understand(name: str, keys: frozenset[str]) -> Found | None:
    """Return which of `keys` (made by `key_of`) a name means; None: none of them."""
    words = _words(name)
    weights = format_of(name)
    # a version of the release (v0.1) or a date may be the model's own or not: with it first
    for candidate in (words, [w for w in words if not re.fullmatch(_DATE, w)], _plain(words)):
        key = _known(" ".join(candidate), keys)
        if key is not None:
            return Found(key, False, weights)
    rest = _plain(words)
    if _CHANGES & set(rest):
        return None
    inside = None
    for first in range(len(rest)):
        for last in range(len(rest), first, -1):
            key = _known(" ".join(rest[first:last]), keys)
            sized = any(re.fullmatch(_SIZE, word) for word in rest[first:last])
            others = [word for word in rest[:first] + rest[last:] if re.fullmatch(_SIZE, word)]
            if key is not None and sized and not others and (inside is None or last - first > inside[0]):
                inside = (last - first, key)
    return Found(inside[1], True, weights) if inside is not None else None


def format_of(name: str) -> str:
    """Return the weight format that a name states, in the words of `--weights`.

    Empty where it states none, "unsaid" where it is another than the published one, and not stated which.
    """
    last = name.strip().rsplit("/", 1)[-1].lower()
    publisher = name.strip().lower().split("/")[0]
    mlx = "mlx" in publisher or "mlx" in last
    found = re.findall(_FORMAT, last)
    bits = re.search(_MLX_BITS, last)
    if mlx and bits:
        group = re.search(r"gs?(32|128)(?=$|[-_])", last)
        return f"mlx-{bits[1]}bit" + (f"-g{group[1]}" if group else "")
    if mlx and found and found[0] in ("mxfp4", "nvfp4"):
        return f"mlx-{found[0]}"
    if found:
        return str(found[-1]).replace("f16", "fp16").replace("fpfp16", "fp16").replace("bfp16", "bf16")
    if bits:
        if "bnb" in last or "unsloth" in publisher:
            return {"4": "nf4", "8": "int8"}.get(bits[1], "")
        if "gptq" in last or "awq" in last:
            return f"{'gptq' if 'gptq' in last else 'awq'}-{bits[1]}bit"
    if ":" in last and "/" not in name:
        return OLLAMA_USUAL
    return "unsaid" if "gguf" in last else ""


def _known(key: str, keys: frozenset[str]) -> str | None:
    key = ALIASES.get(key, key)
    return key if key in keys else None


def _words(name: str) -> list[str]:
    text = name.strip().lower()
    text = re.sub(r"^(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co|ollama\.com)/(?:library/)?", "", text)
    text = re.sub(r"^(?:ollama|hf)[:/]+", "", text)
    text = text.split("/tree/")[0].rstrip("/")
    last = text.rsplit("/", 1)[-1]
    last = re.sub(r"[-_]dq\d(?:_k_[a-z]+|plus)?", "", last)  # MLX's mixtures
    last = re.sub(r"\.gguf$", "", last)
    if last.startswith("models--"):
        last = last.split("--")[-1]
    last = re.sub(_FORMAT, " ", re.sub(r"(?<=\d)_(?=\d\b)", ".", last) if "nemotron" in last else last)
    last = re.sub(_MLX_BITS, " ", last)
    found: list[str] = []
    for word in re.split(r"[-_ :+@]+|(?<=[a-z])\.(?=[a-z])", last):
        match = re.match(_FAMILY, word)
        for part in (match[1], match[2].lstrip(".")) if match else (word,):
            if part and part not in _NEUTRAL:
                found.append(part)
    return found


def _plain(words: list[str]) -> list[str]:
    """Remove dates and versions of a release."""
    return [
        w
        for w in words
        if not re.fullmatch(_DATE, w) and not re.fullmatch(r"v\d(?:\.\d+)?", w) and w not in ("coder", "math", "code")
    ]
