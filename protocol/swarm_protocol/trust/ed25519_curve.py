"""Tell a random secret from an Ed25519 public key: edwards25519 (RFC 8032, section 5.1) in plain integers.

Every public key made from a seed is a point of the prime-order subgroup. Of random 32 bytes only one in 16 is: half are
no point at all, and 7 of 8 points are outside the subgroup.
"""

from __future__ import annotations

from typing import Final

POINT_BYTES: Final = 32
_P: Final = 2**255 - 19
_L: Final = 2**252 + 27742317777372353535851937790883648493  # order of the subgroup
_D: Final = -121665 * pow(121666, -1, _P) % _P
_ROOT_OF_MINUS_1: Final = pow(2, (_P - 1) // 4, _P)

_Point = tuple[int, int, int, int]  # extended homogeneous coordinates (X, Y, Z, T): x = X/Z, y = Y/Z, x*y = T/Z
_NEUTRAL: Final[_Point] = (0, 1, 1, 0)


def may_be_public_key(data: bytes) -> bool:
    """Return True for every public key made from a seed. False: nobody can hold the private key to these bytes."""
    point = _decoded(data)
    if point is None:
        return False
    total, scalar = _NEUTRAL, _L
    while scalar:
        if scalar & 1:
            total = _sum(total, point)
        point = _sum(point, point)
        scalar >>= 1
    return total[0] % _P == 0 and (total[1] - total[2]) % _P == 0


def _decoded(data: bytes) -> _Point | None:
    """Decode a point (RFC 8032, section 5.1.3)."""
    if len(data) != POINT_BYTES:
        return None
    number = int.from_bytes(data, "little")
    y, sign = number & ((1 << 255) - 1), number >> 255
    if y >= _P:
        return None
    square = (y * y - 1) * pow(_D * y * y + 1, -1, _P) % _P
    x = pow(square, (_P + 3) // 8, _P)
    if (x * x - square) % _P:
        x = x * _ROOT_OF_MINUS_1 % _P
    if (x * x - square) % _P or (x == 0 and sign):
        return None
    if x & 1 != sign:
        x = _P - x
    return x, y, 1, x * y % _P


def _sum(p: _Point, q: _Point) -> _Point:
    """Add two points (RFC 8032, section 5.1.4): complete, so it doubles too."""
    a = (p[1] - p[0]) * (q[1] - q[0]) % _P
    b = (p[1] + p[0]) * (q[1] + q[0]) % _P
    c = 2 * p[3] * q[3] * _D % _P
    d = 2 * p[2] * q[2] % _P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % _P, g * h % _P, f * g % _P, e * h % _P
