"""What was here before, by its bytes."""

from __future__ import annotations

import secrets

import numpy as np

from varve.gateway import kernel_hashes

_LEAST_ROWS = 1 << 8


class HashTable:
    """Numbers by a hash of 128 bits, keyed by random seeds, so that no sender can make two texts
    meet. For one thread.
    """

    def __init__(self) -> None:
        self.seeds = np.frombuffer(secrets.token_bytes(16), np.uint64)
        self.slots = np.zeros((_LEAST_ROWS, 3), np.uint64)
        self._count = 0
        self._hash = np.empty(2, np.uint64)

    def __len__(self) -> int:
        return self._count

    def hash(self, text: bytes, seeds: np.ndarray) -> np.ndarray:
        """The two words of a text's hash."""
        kernel_hashes.hash_bytes(np.frombuffer(text, np.uint8), seeds[0], seeds[1], self._hash)
        return self._hash.copy()

    def get(self, hashed: np.ndarray) -> int:
        """The number of a hash; below 0 if it has none."""
        return int(kernel_hashes.get(self.slots, hashed[0], hashed[1]))

    def put(self, hashed: np.ndarray, number: int) -> None:
        """Gives a hash its number."""
        if 2 * (self._count + 1) > len(self.slots):
            moved = np.zeros((2 * len(self.slots), 3), np.uint64)
            kernel_hashes.move(self.slots, moved)
            self.slots = moved
        kernel_hashes.put(self.slots, hashed[0], hashed[1], number)
        self._count += 1
