"""The order of the training photos in an epoch: a permutation that reads large galleries from disk part by part."""

import math

import numpy as np
from numpy.typing import NDArray

LARGEST_BLOCK = 256  # photos; some megabytes, which a disk reads at full speed
BLOCKS_AT_ONCE = 512  # a part resembles the gallery as far as a sample of so many blocks does


def epoch_order(rows: NDArray[np.int64], *, at_once: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """All `rows` in the order of an epoch, as a function of seed and epoch.

    Up to `at_once` rows are permuted as a whole. More rows are cut into blocks of consecutive rows. The blocks are
    permuted, and then the rows of each part, which has at most `at_once` rows of consecutive blocks. A row is then
    about `len(rows) / at_once` times as likely as in a full permutation to share a batch with a row of its block, and
    as likely as in a full permutation to share it with any other row.
    """
    random = np.random.default_rng([seed, epoch])
    if len(rows) <= at_once:
        return random.permutation(rows)
    block = max(1, min(LARGEST_BLOCK, at_once // BLOCKS_AT_ONCE))
    starts = random.permutation(np.arange(0, len(rows), block))
    order = np.concatenate([rows[start : start + block] for start in starts])
    for part in np.array_split(order, math.ceil(len(rows) / at_once)):
        random.shuffle(part)  # a part is a view of `order`
    return order
