"""Vectors at rest and their exact cosines.

A vector is stored as little-endian half floats, two bytes a dimension; the rounding moves a cosine by about 0.0001.
Everything is computed from what is stored, never from what a model has just answered: so a row has one vector.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from persona_hub.errors import LakeError

BLOCK_ROWS = 512
DECIMALS = 9  # of a cosine, as it is judged and stored

_PAIRS_AT_ONCE = 4096  # of which the products stand in memory, in double


def pack_vectors(vectors: NDArray[np.float32]) -> pa.Array:
    """Vectors as they are stored.

    Args:
        vectors: (n, d), each of about length 1.

    Returns:
        n values of 2 * d bytes; at most 2 GiB in one array.

    Raises:
        LakeError: NaN, infinity or zero in place of a vector.
    """
    with np.errstate(over="ignore"):  # beyond 65,504 is infinity, and refused
        halves = np.ascontiguousarray(vectors, "<f2")
    rows, dimensions = halves.shape
    _refuse_bad(halves)
    offsets = np.arange(0, rows * dimensions * 2 + 1, dimensions * 2, dtype=np.int32)
    return pa.Array.from_buffers(pa.binary(), rows, [None, pa.py_buffer(offsets), pa.py_buffer(halves)])


def unpack_vectors(values: pa.Array, dimensions: int | None = None) -> NDArray[np.float32]:
    """Reads stored vectors.

    Args:
        values: n binary values.
        dimensions: wanted; None takes the first value's.

    Returns:
        (n, d)

    Raises:
        LakeError: a value that is missing, of another size, not finite or all zero; says the first one's place.
    """
    return widen(read_halves(values, dimensions))


def read_halves(values: pa.Array, dimensions: int | None = None) -> NDArray[np.float16]:
    """`unpack_vectors` without the unpacking: a view of the values' own bytes."""
    if not len(values):
        return np.zeros((0, dimensions or 0), np.float16)
    sizes = pc.fill_null(pc.binary_length(values), -1).to_numpy(zero_copy_only=False)
    wanted = 2 * dimensions if dimensions else max(2, int(sizes[0]) // 2 * 2)
    if (wrong := np.flatnonzero(sizes != wanted)).size:
        found = int(sizes[wrong[0]])
        raise LakeError(
            f"Vector {wrong[0]} of {len(values)} " + (f"has {found} bytes" if found >= 0 else "is missing"),
            wanted=f"{wanted} bytes: {wanted // 2} half floats",
            cure="the vectors may be of another embedding model (ops.publications names the hub's)",
        )
    whole = values.cast(pa.binary(wanted))
    halves = np.frombuffer(whole.buffers()[1], "<f2", len(values) * wanted // 2, whole.offset * wanted)
    vectors = halves.reshape(len(values), -1)
    _refuse_bad(vectors)
    return vectors


def widen(halves: NDArray[np.float16]) -> NDArray[np.float32]:
    """Finite half floats in single precision, exactly. NumPy's own conversion takes five times as long."""
    bits = halves.view(np.int16).astype(np.int32)
    bits <<= 13
    bits &= ~0x70000000  # copies of the sign, which the cast has put before the exponent
    values = bits.view(np.float32)
    values *= np.float32(2.0**112)  # the exponents count from 15 in a half float, from 127 in a single one
    return values


def _refuse_bad(vectors: NDArray[np.float16]) -> None:
    # By bits, as half floats are slow to calculate with: an exponent of ones is infinity or NaN; zero but for the sign is 0.
    magnitudes = vectors.view(np.uint16) & 0x7FFF
    largest = magnitudes.max(axis=1, initial=0)
    if (bad := np.flatnonzero((largest >= 0x7C00) | (largest == 0))).size:
        found = "is all zero" if largest[bad[0]] == 0 else "holds NaN or infinity"
        raise LakeError(
            f"Vector {bad[0]} of {len(vectors)} {found}",
            wanted="finite numbers, not all of them zero",
            cure="look at the text and at the embedding model that made it",
        )


def exact_cosines(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    """Cosine of each row of a with the same row of b, in double.

    The bits depend on the two vectors only: not on their order, nor on the rows beside them. (Products of half floats
    of length 1 are multiples of 2^-48, so their sums are even exact.)

    Args:
        a, b: (n, d), no zero vectors.

    Returns:
        (n,) at most 1, rounded to DECIMALS; 1 for equal vectors.
    """
    cosines = np.empty(len(a))
    for start in range(0, len(a), _PAIRS_AT_ONCE):
        rows = slice(start, start + _PAIRS_AT_ONCE)
        left, right = a[rows].astype(np.float64), b[rows].astype(np.float64)
        squares = np.add.reduce(left * left, axis=1) * np.add.reduce(right * right, axis=1)
        cosines[rows] = np.add.reduce(left * right, axis=1) / np.sqrt(squares)
    return np.clip(cosines.round(DECIMALS), -1.0, 1.0)


def multiply_blocks(
    vectors: NDArray[np.float32], matrix: NDArray[np.float32]
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Rows times a matrix, block by block.

    BLAS chooses its kernel, and so the order of its sums, by the shape: a row's last bits would depend on how many rows
    come with it. Here every product has one shape, the last block is filled up.

    Args:
        vectors: (n, d)
        matrix: (d, k)

    Yields:
        the first row's place, and the products of up to BLOCK_ROWS rows (m, k), which the next round overwrites.

    Raises:
        LakeError: the dimensions differ.
    """
    if vectors.shape[1] != matrix.shape[0]:
        raise LakeError(
            f"Vectors of {vectors.shape[1]} dimensions",
            wanted=f"{matrix.shape[0]}, as the centroids have",
            cure="the hub was made with another embedding model: set that one, or start another lake",
        )
    block = np.zeros((BLOCK_ROWS, matrix.shape[0]), np.float32)
    product = np.empty((BLOCK_ROWS, matrix.shape[1]), np.float32)
    for start in range(0, len(vectors), BLOCK_ROWS):
        rows = vectors[start : start + BLOCK_ROWS]
        block[: len(rows)] = rows
        yield start, np.matmul(block, matrix, out=product)[: len(rows)]
