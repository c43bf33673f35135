"""What a patch can say about its camera: published formulas, and planted texture that is found."""

import numpy as np

from camid_utils import content


def noise(rng, height, width):
    return rng.integers(90, 170, (height, width, 3), dtype=np.uint8)


def levels(count, size=32):
    """A grey patch [size, size, 3] in which `count` grey levels are equally frequent."""
    grey = (np.arange(size * size) % count * (256 // count)).astype(np.uint8)
    return np.repeat(grey.reshape(size, size, 1), 3, axis=2)


def test_quality_is_the_published_formula():
    batch = noise(np.random.default_rng(0), 64, 32).reshape(2, 32, 32, 3)
    scaled = batch / 255
    mean, spread = scaled.mean(axis=(1, 2)), scaled.std(axis=(1, 2))
    expected = 0.7 * 4 * (mean - mean**2) + 0.3 * (1 - 0.01**spread)
    np.testing.assert_allclose(content.quality(batch), expected.mean(axis=1), rtol=1e-6)


def test_quality_ranks_texture_above_flat_above_clipped():
    kinds = np.stack([np.full((48, 48, 3), value, np.uint8) for value in (255, 0, 128, 128)])
    kinds[3] = noise(np.random.default_rng(0), 48, 48)
    white, black, flat, rich = content.quality(kinds)
    assert white == black == 0 and abs(flat - 0.7) < 1e-4 and rich > flat + 0.1


def test_best_positions_find_the_planted_texture_in_a_clipped_photo():
    photo = np.full((480, 720, 3), 255, np.uint8)
    planted = [(48, 96), (240, 480), (432, 0)]
    for y, x in planted:
        photo[y : y + 48, x : x + 48] = noise(np.random.default_rng(y), 48, 48)
    assert {tuple(map(int, corner)) for corner in content.best_positions(photo, 48, 3)} == set(planted)


def test_entropy_counts_the_bits_of_planted_histograms():
    planted = np.stack([levels(count) for count in (1, 2, 16, 256)])
    np.testing.assert_allclose(content.entropy(planted), [0, 1, 4, 8], atol=1e-12)


def test_entropy_of_uneven_shares():
    patch = np.zeros((1, 16, 16, 3), np.uint8)
    patch[0, :4] = 200  # a quarter
    np.testing.assert_allclose(content.entropy(patch), 0.25 * 2 + 0.75 * np.log2(4 / 3))


def test_entropy_is_of_the_grey_level_and_not_of_the_colours():
    patch = np.zeros((1, 2, 2, 3), np.uint8)
    patch[0, 0], patch[0, 1] = (38, 0, 0), (0, 19, 2)  # 0.299 x 38 and 0.587 x 19 + 0.114 x 2: both 11
    assert content.entropy(patch)[0] == 0


def test_entropy_of_a_store_is_that_of_its_patches_one_by_one():
    many = np.random.default_rng(0).integers(0, 256, (content.BLOCK + 3, 8, 8, 3), dtype=np.uint8)
    many[::2] //= 8
    entropies = content.entropy(many)
    np.testing.assert_array_equal(entropies, np.concatenate([content.entropy(patch[None]) for patch in many]))
    assert entropies[::2].max() < entropies[1::2].min() and content.entropy(many[:0]).shape == (0,)
