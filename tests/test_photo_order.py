"""The order of training photos: a permutation, and how far shuffling in parts departs from a full one."""

import numpy as np
import pytest

from dualgeo_core.model.photo_order import epoch_order

PHOTOS, AT_ONCE, BATCH, OF_EACH, EPOCHS = 48_000, 12_000, 200, 6, 12


def _orders(at_once: int) -> list[np.ndarray]:
    return [epoch_order(np.arange(PHOTOS), at_once=at_once, seed=1, epoch=epoch) for epoch in range(EPOCHS)]


def _pairs_share(orders: list[np.ndarray], group_of_photo: np.ndarray) -> float:
    """The share of pairs of photos in one batch that are of one group."""
    shares = []
    for batch in np.concatenate(orders).reshape(-1, BATCH):
        counts = np.unique(group_of_photo[batch], return_counts=True)[1]
        shares.append((counts * (counts - 1)).sum() / (BATCH * (BATCH - 1)))
    return float(np.mean(shares))


@pytest.mark.parametrize("at_once", [PHOTOS, AT_ONCE, 1000, 1])
def test_every_photo_comes_once_per_epoch_and_each_epoch_has_an_order_of_its_own(at_once: int) -> None:
    rows = np.arange(0, 2 * PHOTOS, 2)
    first, again, second = (epoch_order(rows, at_once=at_once, seed=3, epoch=epoch) for epoch in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, epoch_order(rows, at_once=at_once, seed=4, epoch=0))
    assert np.array_equal(np.sort(first), rows)


def test_a_small_gallery_is_permuted_as_a_whole() -> None:
    rows = np.arange(3, 2003)
    assert np.array_equal(
        epoch_order(rows, at_once=2000, seed=5, epoch=2), np.random.default_rng([5, 2]).permutation(rows)
    )


def test_photos_of_one_identity_meet_as_often_as_the_size_of_a_part_says() -> None:
    """Runs of 6 photos by one photographer, in parts of a quarter of the gallery, share a batch four times as often."""
    photographer = np.arange(PHOTOS) // OF_EACH
    full, parts = (_pairs_share(_orders(at_once), photographer) for at_once in (PHOTOS, AT_ONCE))
    assert full == pytest.approx((OF_EACH - 1) / (PHOTOS - 1), rel=0.1)
    assert parts == pytest.approx((OF_EACH - 1) / (AT_ONCE - 1), rel=0.2)


def test_photos_of_different_blocks_meet_as_in_a_full_permutation() -> None:
    """Photographers whose photos are spread over the gallery, and regions of a tenth of it, meet by chance."""
    photographer, region = np.arange(PHOTOS) % (PHOTOS // OF_EACH), np.arange(PHOTOS) * 10 // PHOTOS
    assert _pairs_share(_orders(AT_ONCE), photographer) == pytest.approx((OF_EACH - 1) / (PHOTOS - 1), rel=0.15)
    assert _pairs_share(_orders(AT_ONCE), region) == pytest.approx(_pairs_share(_orders(PHOTOS), region), rel=0.05)


def test_each_batch_comes_from_all_over_the_gallery() -> None:
    """The mean row of a batch varies little more than in a full permutation, though a part is a sample of blocks."""
    full, parts = (
        np.concatenate(_orders(at_once)).reshape(-1, BATCH).mean(axis=1).std() for at_once in (PHOTOS, AT_ONCE)
    )
    assert parts < 1.3 * full
