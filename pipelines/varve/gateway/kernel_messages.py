"""Samples become messages of Arrow IPC, a kernel writing the bytes behind a patched head.

Source of the format: schemas/wire/samples.arrow.json; Apache Arrow, format/Message.fbs.
"""

from __future__ import annotations

import numpy as np

from varve.model.compiled import kernel

# Where a message's numbers are in `places`: of its body's length, its rows, the four columns' rows,
# and offset and length of the eight buffers.
BODY, ROWS, NODES, BUFFERS = 0, 1, 2, 6
PLACES = 14


@kernel("int64(const int32[::1], int64, int64, int64[:,::1], int64[::1])")
def plan_messages(
    targets: np.ndarray, rows: int, most: int, messages: np.ndarray, order: np.ndarray
) -> int:
    """Cuts `rows` samples into messages of at most `most`, each of one target.

    Fills `messages` (target, first row in `order`, rows) and `order`, the rows sorted by target, in
    their order within each. Returns the number of messages. `messages` has its number of rows for
    targets + rows // most at least.
    """
    highest = 0
    for row in range(rows):
        highest = max(highest, targets[row])
    begins = np.zeros(highest + 2, np.int64)
    for row in range(rows):
        begins[targets[row] + 1] += 1
    for target in range(highest + 1):
        begins[target + 1] += begins[target]
    count = 0
    for target in range(highest + 1):
        size = begins[target + 1] - begins[target]
        if size:
            parts = (size + most - 1) // most
            for part in range(parts):
                first = begins[target] + size * part // parts
                messages[count, 0] = target
                messages[count, 1] = first
                messages[count, 2] = begins[target] + size * (part + 1) // parts - first
                count += 1
    for row in range(rows):
        target = targets[row]
        order[begins[target]] = row
        begins[target] += 1
    return count


@kernel(
    "int64(const int64[::1], const int32[::1], const int64[::1], const float64[::1],"
    " const int64[::1], const int64[::1], const int64[::1], int64,"
    " int64[::1], int32[::1], float64[::1])"
)
def write_message(
    ids: np.ndarray,
    checks: np.ndarray,
    ts: np.ndarray,
    values: np.ndarray,
    order: np.ndarray,
    head: np.ndarray,
    places: np.ndarray,
    at: int,
    words: np.ndarray,
    halves: np.ndarray,
    doubles: np.ndarray,
) -> int:
    """Writes the rows that `order` names as one message; returns the word behind it.

    words, halves and doubles are views of the same bytes; `at` is the word the message begins at.
    head: the bytes before the columns, whose numbers are at `places` (in words).
    """
    rows = len(order)
    check_words = (rows + 1) // 2
    body = rows * 3 + check_words
    for k in range(len(head)):
        words[at + k] = head[k]
    words[at + places[BODY]] = body * 8
    words[at + places[ROWS]] = rows
    for k in range(4):
        words[at + places[NODES + k]] = rows
    offset = 0
    for k in range(4):
        size = rows * 4 if k == 1 else rows * 8
        place = at + places[BUFFERS + 2 * k]
        words[place] = offset
        words[place + 1] = 0
        place = at + places[BUFFERS + 2 * k + 1]
        words[place] = offset
        words[place + 1] = size
        offset += check_words * 8 if k == 1 else rows * 8
    at += len(head)
    for k in range(rows):
        words[at + k] = ids[order[k]]
    at += rows
    words[at + check_words - 1] = 0
    for k in range(rows):
        halves[2 * at + k] = checks[order[k]]
    at += check_words
    for k in range(rows):
        words[at + k] = ts[order[k]]
    at += rows
    for k in range(rows):
        doubles[at + k] = values[order[k]]
    at += rows
    # The mark of the stream's end.
    words[at] = 0xFFFFFFFF
    return at + 1
