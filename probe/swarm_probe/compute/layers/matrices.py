"""Draw the matrices of a layer, and multiply by them in each weight format.

Plain formats (fp32, fp16, bf16) go through torch's linear. Quantised ones use kernels that torch ships (`int8`,
`int4_g128`) or bitsandbytes (`nf4`), where those run on the device and are no slower than the plain format; what has no
kernel here is timed in fp16 by the caller, and the predictor scales it by bytes and says so. Sources: Dettmers 2022
(LLM.int8), Dettmers 2023 (NF4), the tinygemm kernels in torch (ATen/native/cuda/int4mm.cu).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import torch
import torch.nn.functional as F  # noqa: N812 - what everybody calls it

_BLOCK: Final = 1_048_573  # random numbers drawn once and laid side by side; prime, so that rows differ
GROUP: Final = 128  # of int4_g128, weights that share a scale
NF4_BLOCK: Final = 64  # QLoRA's
QUANTISED: Final = ("int8", "int4_g128", "nf4")
DECODE_ONLY: Final = ("int8", "int4_g128")  # these kernels are for a few rows; for prompts engines have others
KERNEL_DTYPE: Final = {"int8": torch.bfloat16, "int4_g128": torch.bfloat16, "nf4": torch.bfloat16}  # of activations
BITS: Final = {"int8": 8.0, "int4_g128": 4 + 32 / GROUP, "nf4": 4.5}  # a weight, with scales and zero points


class NoKernel(Exception):
    """This weight format does not run on this device; the text says why."""


class Linear:
    """y = x Wᵀ + b, in the format the weights are kept in."""

    __slots__ = ("_bias", "_multiply", "columns", "rows", "weight")

    def __init__(
        self, weight: torch.Tensor, bias: torch.Tensor | None, multiply: Callable[[torch.Tensor], torch.Tensor] | None
    ) -> None:
        """Create it from `weight`, (rows, columns); with `multiply` only the shape is kept, not the numbers."""
        self.rows, self.columns = weight.shape
        self.weight = weight if multiply is None else weight.new_empty(0)
        self._bias = bias
        self._multiply = multiply

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        if self._multiply is None:
            return F.linear(x, self.weight, self._bias)
        y = self._multiply(x.reshape(-1, self.columns)).view(*x.shape[:-1], self.rows)
        return y if self._bias is None else y + self._bias


class Weights:
    """Draws tensors for a layer; the same seed gives the same numbers on the same device."""

    def __init__(self, seed: int, dtype: torch.dtype, device: torch.device | str, quantised: str = "") -> None:
        """Create it. `quantised`: the format of `linear`s, one of QUANTISED; empty: they have `dtype`."""
        self._generator = torch.Generator(device="cpu").manual_seed(seed)
        self.dtype = dtype
        self.device = device
        self._quantised = quantised

    def matrix(self, rows: int, columns: int) -> torch.Tensor:
        """Return random numbers with the variance that keeps activations in range. Large ones repeat a block: drawing
        10⁹ normal numbers takes longer than measuring with them."""
        count = rows * columns
        block = torch.randn(min(count, _BLOCK), generator=self._generator) * (columns**-0.5)
        block = block.to(self.device, self.dtype)
        flat = torch.empty(count, dtype=self.dtype, device=self.device)
        for start in range(0, count, _BLOCK):
            flat[start : start + _BLOCK] = block[: min(_BLOCK, count - start)]
        return flat.view(rows, columns)

    def vector(self, size: int, around: float) -> torch.Tensor:
        drawn = around + 0.02 * torch.randn(size, generator=self._generator)
        return drawn.to(self.device, self.dtype)

    def linear(self, rows: int, columns: int, *, bias: bool = False, plain: bool = False) -> Linear:
        """Return a linear layer. `plain`: unquantised whatever the format, as quantisers leave routers."""
        weight = self.matrix(rows, columns)
        multiply = quantise(weight, self._quantised) if self._quantised and not plain else None
        return Linear(weight, self.vector(rows, 0.0) if bias else None, multiply)


def quantise(weight: torch.Tensor, name: str) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return a function that multiplies rows of activations by this matrix kept as `name`. Raises NoKernel."""
    try:
        return _MAKERS[name](weight)
    except (RuntimeError, NotImplementedError, AttributeError, ImportError) as error:
        if "out of memory" in str(error) or "allocate memory" in str(error):
            raise
        raise NoKernel(
            f"{name} has no kernel for {tuple(weight.shape)} on {weight.device}: {_first_line(error)}"
        ) from error


def _int8(weight: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    """Quantise with one scale a row."""
    scale = (weight.float().abs().amax(1) / 127).clamp_min(1e-12)
    packed = (weight.float() / scale[:, None]).round().to(torch.int8)
    scale = scale.to(weight.dtype)
    return lambda x: torch._weight_int8pack_mm(x, packed, scale)


def _int4(weight: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    """Quantise with a scale and a zero for each GROUP of a row (torch adds 8 to what it reads: values are 0 to 15)."""
    rows, columns = weight.shape
    if columns % GROUP:
        raise NoKernel(f"int4_g128 needs columns in groups of {GROUP}, not {columns}")
    groups = weight.float().view(rows, columns // GROUP, GROUP)
    low, high = groups.amin(-1), groups.amax(-1)
    scale = ((high - low) / 15).clamp_min(1e-12)
    numbers = ((groups - low[..., None]) / scale[..., None]).round().clamp(0, 15).to(torch.int32).view(rows, columns)
    both = torch.stack((scale, low + 8 * scale), -1).transpose(0, 1).contiguous().to(weight.dtype)
    if weight.device.type == "cpu":
        packed = torch._convert_weight_to_int4pack_for_cpu(numbers, 1)
        return lambda x: torch._weight_int4pack_mm_for_cpu(x, packed, GROUP, both)
    pairs = (numbers[:, ::2] << 4 | numbers[:, 1::2]).to(torch.uint8)
    packed = torch._convert_weight_to_int4pack(pairs, 8)
    return lambda x: torch._weight_int4pack_mm(x, packed, GROUP, both)


def _nf4(weight: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    """Quantise with bitsandbytes: Petals' default."""
    import bitsandbytes as bnb  # late: an extra, and it loads CUDA

    packed, state = bnb.functional.quantize_4bit(weight, blocksize=NF4_BLOCK, quant_type="nf4")
    return lambda x: bnb.matmul_4bit(x, packed.t(), quant_state=state)


_MAKERS: Final[dict[str, Callable[[torch.Tensor], Callable[[torch.Tensor], torch.Tensor]]]] = {
    "int8": _int8,
    "int4_g128": _int4,
    "nf4": _nf4,
}


def _first_line(error: BaseException) -> str:
    lines: list[Any] = str(error).strip().splitlines() or [type(error).__name__]
    return str(lines[0])[:120]
