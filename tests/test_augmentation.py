"""The random degradations of training images are those of `photos.degrade`."""

import numpy as np
import pytest
import torch
from PIL import Image

from camid_utils import augmentation
from camid_utils.augmentation import DegradationAugmentation
from camid_utils.photos import degrade, recompress


def scene(side=64, seed=0):
    """Smooth blobs with pixel noise on top: content and traces."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(60, 200, (side // 16, side // 16, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC)).astype(int)
    return (smooth + rng.integers(-12, 13, (side, side, 3))).clip(0, 255).astype(np.uint8)


def tensor(*photos):
    """0..1 images [n, 3, h, w] as they come from a store: channels last."""
    return torch.from_numpy(np.stack(photos)).permute(0, 3, 1, 2).float() / 255


def levels(images):
    """uint8 [n, h, w, 3] of 0..1 images, which must be whole grey levels."""
    values = images * 255
    assert torch.allclose(values, values.round(), atol=1e-3) and 0 <= values.min() and values.max() <= 255
    return values.round().byte().permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize("factor", [0.5, 0.75])
def test_a_shrunk_image_is_the_smaller_photo_and_its_mirror_image(factor):
    photo, small = scene(96), round(96 * factor)
    image = levels(augmentation.shrunk(tensor(photo), torch.tensor([factor])))[0].astype(int)
    assert abs(image[:small, :small] - degrade(photo, f"scale {factor}")).max() <= 1  # Pillow rounds in between
    np.testing.assert_array_equal(image[small:], image[2 * small - 96 : small][::-1])
    np.testing.assert_array_equal(image[:, small:], image[:, 2 * small - 96 : small][:, ::-1])


def test_each_image_has_its_own_factor_noise_and_quality():
    torch.manual_seed(0)
    photos = [scene(seed=seed) for seed in range(3)]
    factors = torch.tensor([1.0, 0.4, 0.7])
    images = levels(augmentation.shrunk(tensor(*photos), factors))
    np.testing.assert_array_equal(images[0], photos[0])
    for i in (1, 2):
        alone = augmentation.shrunk(tensor(photos[i]), factors[i : i + 1])
        np.testing.assert_array_equal(images[i], levels(alone)[0])
    grey = [np.full((64, 64, 3), 128, np.uint8)] * 3
    noise = levels(augmentation.noisy(tensor(*grey), torch.tensor([0.0, 2.0, 5.0]))).astype(float)
    expected = [0, (4 + 1 / 12) ** 0.5, (25 + 1 / 12) ** 0.5]  # rounding adds 1/12
    np.testing.assert_allclose(noise.std(axis=(1, 2, 3)), expected, rtol=0.04)
    coded = levels(augmentation.recompressed(tensor(*photos[:1] * 3), torch.tensor([95.0, 60.0, 10.0])))
    errors = abs(coded.astype(int) - photos[0]).mean(axis=(1, 2, 3))
    assert errors[0] < errors[1] < errors[2]


def test_a_recompressed_image_is_a_real_jpeg_with_the_block_grid_anywhere():
    torch.manual_seed(3)
    photo = scene(48)
    padded = np.pad(photo, ((15, 0), (15, 0), (0, 0)), "reflect")
    real = {(y, x): recompress(padded[y:, x:], 60)[-48:, -48:].tobytes() for y in range(16) for x in range(16)}
    images = levels(augmentation.recompressed(tensor(*[photo] * 12), torch.full((12,), 60.0)))
    found = [[start for start, jpeg in real.items() if jpeg == image.tobytes()] for image in images]
    assert all(found) and len({starts[0] for starts in found}) > 6


def test_every_image_gets_its_own_draws_and_a_seed_repeats_them():
    augment, batch = DegradationAugmentation(), tensor(*[scene()] * 64)
    before = batch.clone()
    torch.manual_seed(1)
    images = augment(batch)
    assert images.shape == batch.shape and torch.equal(batch, before)
    kinds = {image.tobytes() for image in levels(images)}
    intact = {image.tobytes() for image in levels(torch.cat([batch[:1], batch[:1].flip(3)]))}
    share = sum(image.tobytes() in intact for image in levels(images)) / 64
    assert len(kinds) > 40 and intact < kinds and 0.05 < share < 0.4  # 0.5 x 0.75 x 0.5 = 0.19 expected
    torch.manual_seed(1)
    assert torch.equal(augment(batch), images)


def test_every_setting_is_in_the_text_that_identifies_a_run_and_impossible_ones_are_refused():
    default = repr(DegradationAugmentation())
    for change in ({"scale": (0.1, 0.4, 1.0)}, {"noise": (0.25, 1, 4)}, {"jpeg": (0.5, 60, 95)}):
        assert repr(DegradationAugmentation(**change)) != default
    for wrong in ({"scale": (0.5, 0.5, 1.5)}, {"scale": (0.5, 0, 1)}, {"jpeg": (0.5, 90, 50)}, {"jpeg": (2.0, 50, 95)}):
        with pytest.raises(ValueError, match="(shrunk|recompressed): .* expected a probability and two amounts from"):
            DegradationAugmentation(**wrong)
