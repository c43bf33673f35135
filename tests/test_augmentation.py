"""Flips and turns move pixels where they should; the random degradations are those of `photos.degrade`."""

import numpy as np
import pytest
import torch
from helpers import scene

from camid_utils import augmentation
from camid_utils.augmentation import DEGRADED, augmented, draw
from camid_utils.photos import degrade, recompress


def tensor(*photos):
    """Images uint8 [n, 3, h, w] as they come from a store: channels last."""
    return torch.from_numpy(np.stack(photos)).permute(0, 3, 1, 2)


def levels(images):
    """uint8 [n, h, w, 3] of images, which must be whole grey levels."""
    assert images.dtype == torch.uint8
    return images.permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize("turns", range(-1, 3))
def test_a_turn_by_right_angles_and_a_flip_put_every_pixel_in_its_place(turns):
    photo = tensor(scene(64, 64), scene(64, 64, 1))
    turned = augmented(photo, {"rotation": torch.tensor([90.0 * turns, 0.0])})
    expected = torch.stack([photo[0].rot90(turns, (1, 2)), photo[1]]).float()
    torch.testing.assert_close(turned, expected, atol=0.05, rtol=0)
    flipped = augmented(photo, {"flip": torch.tensor([False, True])})
    assert torch.equal(flipped, torch.stack([photo[0], photo[1].flip(2)]))


def test_jitter_changes_mean_and_contrast_of_each_image_by_its_own_factors():
    photo = tensor(*[scene(64, 64)] * 3)
    images = augmented(photo, {"jitter": torch.tensor([[1.0, 1.0], [0.8, 1.0], [1.0, 0.5]])})
    mean, deviation = float(photo[0].float().mean()), float(photo[0].float().std())
    assert images.mean((1, 2, 3)).tolist() == pytest.approx([mean, 0.8 * mean, mean], rel=1e-4)
    assert images.std((1, 2, 3)).tolist() == pytest.approx([deviation, 0.8 * deviation, 0.5 * deviation], rel=1e-4)


def test_draws_lie_within_the_amounts_and_differ_from_image_to_image():
    draws = draw({"flip": True, "rotation": 10, "jitter": 0.2}, 1000, np.random.default_rng(0))
    assert 0.4 < draws["flip"].float().mean() < 0.6 and {len(values) for values in draws.values()} == {1000}
    assert 9.8 < draws["rotation"].max() <= 10 and -10 <= draws["rotation"].min() < -9.8
    assert 0.8 <= draws["jitter"].min() < 0.81 and 1.19 < draws["jitter"].max() <= 1.2
    assert draw(None, 5) == draw({}, 5) == {}
    assert all(values.dtype != torch.float64 for values in (draws | draw(DEGRADED, 9)).values())


def test_a_shrunk_image_is_the_smaller_photo_and_its_mirror_image():
    photo = scene(96, 96)
    images = levels(augmentation.shrunk(tensor(*[photo] * 3), torch.tensor([1.0, 0.75, 0.5]))).astype(int)
    np.testing.assert_array_equal(images[0], photo)
    for image, small in ((images[1], 72), (images[2], 48)):
        assert abs(image[:small, :small] - degrade(photo, f"scale {small / 96}")).max() <= 1  # Pillow rounds in between
        np.testing.assert_array_equal(image[small:], image[2 * small - 96 : small][::-1])
        np.testing.assert_array_equal(image[:, small:], image[:, 2 * small - 96 : small][:, ::-1])


def test_each_image_has_noise_of_its_own():
    grey = tensor(*[np.full((64, 64, 3), 128, np.uint8)] * 3)
    noise = levels(augmentation.noisy(grey, torch.tensor([0.0, 2.0, 5.0]), torch.arange(3))).astype(float)
    expected = [0, (4 + 1 / 12) ** 0.5, (25 + 1 / 12) ** 0.5]  # rounding adds 1/12
    np.testing.assert_allclose(noise.std(axis=(1, 2, 3)), expected, rtol=0.04)


def test_a_recompressed_image_is_a_real_jpeg_with_the_quality_and_the_block_grid_that_were_drawn():
    photo, qualities = scene(48, 48), [60, 85] * 6
    padded = np.pad(photo, ((15, 0), (15, 0), (0, 0)), "reflect")
    corners = draw({"jpeg": [1, 60, 60]}, 12)["corner"]
    images = levels(augmentation.recompressed(tensor(*[photo] * 12), torch.tensor(qualities), corners))
    for image, quality, (y, x) in zip(images, qualities, corners.tolist(), strict=True):
        np.testing.assert_array_equal(image, recompress(padded[y:, x:], quality)[-48:, -48:])
    assert len({tuple(corner) for corner in corners.tolist()}) > 6


def test_every_image_gets_its_own_draws_and_a_seed_repeats_them():
    batch = tensor(*[scene(64, 64)] * 64)
    before, draws = batch.clone(), draw(DEGRADED, 64, np.random.default_rng(1))
    images = augmented(batch, draws)
    assert images.shape == batch.shape and torch.equal(batch, before)
    kinds = {image.tobytes() for image in levels(images)}
    intact = {image.tobytes() for image in levels(torch.cat([batch[:1], batch[:1].flip(3)]))}
    share = sum(image.tobytes() in intact for image in levels(images)) / 64
    assert len(kinds) > 40 and intact < kinds and 0.05 < share < 0.4  # 0.5 x 0.75 x 0.5 = 0.19 expected
    assert torch.equal(augmented(batch, draw(DEGRADED, 64, np.random.default_rng(1))), images)
    half = augmented(batch[32:], {name: values[32:] for name, values in draws.items()})
    assert torch.equal(half, images[32:])  # whatever batch an image is in


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"scale": [0.5, 0.5, 1.5]}, "scale .* a probability and two amounts, the lower first, from 0.01 to 1"),
        ({"scale": [0.5, 0, 1]}, "scale"),
        ({"jpeg": [0.5, 90, 50]}, "jpeg .* from 1 to 100"),
        ({"jpeg": [2.0, 50, 95]}, "jpeg"),
        ({"rotation": -5}, "rotation -5, expected an amount from 0 to 180"),
        ({"flips": True}, "no step flips; there are flip, rotation"),
    ],
)
def test_impossible_settings_are_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        draw(wrong, 4)
