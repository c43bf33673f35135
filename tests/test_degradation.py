"""Degradations of photos are what they are named; the augmentation does the same to training images."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from camid_utils import degradation
from camid_utils.degradation import DegradationAugmentation, degrade


def scene(height=96, width=160, seed=0):
    """Smooth blobs with pixel noise on top: content and traces."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(60, 200, (height // 16, width // 16, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(int)
    return (smooth + rng.integers(-12, 13, (height, width, 3))).clip(0, 255).astype(np.uint8)


def through_jpeg(photo, quality):
    buffer = io.BytesIO()
    Image.fromarray(photo).save(buffer, "JPEG", quality=quality, subsampling=2)
    return np.asarray(Image.open(buffer))


def detail(photo):
    """What changes from one pixel to the next, on average."""
    return np.abs(np.diff(photo.astype(int), axis=1)).mean()


def tensor(*photos):
    """0..1 images [n, 3, h, w] as they come from a store: channels last."""
    return torch.from_numpy(np.stack(photos)).permute(0, 3, 1, 2).float() / 255


def levels(images):
    """uint8 [n, h, w, 3] of 0..1 images, which must be of whole grey levels."""
    values = images * 255
    assert torch.allclose(values, values.round(), atol=1e-3) and 0 <= values.min() and values.max() <= 255
    return values.round().byte().permute(0, 2, 3, 1).numpy()


def test_jpeg_is_that_of_pillow_with_halved_chroma():
    np.testing.assert_array_equal(degrade(scene(), "jpeg 70"), through_jpeg(scene(), 70))


def test_scale_changes_both_sides_and_averages_detail_away():
    stripes = np.zeros((100, 201, 3), np.uint8)
    stripes[:, ::2] = 255
    half = degrade(stripes, "scale 0.5")
    assert half.shape == (50, 100, 3) and abs(half[:, 2:-2].astype(int) - 128).max() < 12
    assert degrade(scene(), "scale 0.01").shape == (1, 2, 3)


def test_traces_go_and_content_stays():
    photo = scene()
    gone = degrade(photo, "traces 0.5 90")
    assert gone.shape == photo.shape and detail(gone) < 0.4 * detail(photo)
    small = [np.asarray(Image.fromarray(p).resize((20, 12), Image.Resampling.BOX)).astype(int) for p in (photo, gone)]
    assert abs(small[0] - small[1]).mean() < 2


def test_messenger_makes_the_longer_side_fit_and_never_enlarges():
    photo = scene(96, 160)
    np.testing.assert_array_equal(degrade(photo, "messenger 1600 75"), degrade(photo, "jpeg 75"))
    fitted = degrade(photo, "messenger 80 75")
    np.testing.assert_array_equal(fitted, degrade(degrade(photo, "scale 0.5"), "jpeg 75"))
    assert degrade(photo.transpose(1, 0, 2).copy(), "messenger 80 75").shape == (80, 48, 3)


def test_noise_has_its_deviation_and_differs_between_photos_not_between_calls():
    photos = [np.full((200, 200, 3), value, np.uint8) for value in (100, 101)]
    first, other = (degrade(photo, "noise 3").astype(int) - photo for photo in photos)
    assert abs(first.std() / (9 + 1 / 12) ** 0.5 - 1) < 0.02 and abs(first.mean()) < 0.05  # rounding adds 1/12
    assert abs(np.corrcoef(first.ravel(), other.ravel())[0, 1]) < 0.02
    np.testing.assert_array_equal(degrade(photos[0], "noise 3"), first + photos[0])
    assert degrade(np.full((50, 50, 3), 254, np.uint8), "noise 3").min() > 230  # clipped, not wrapped round


def test_nothing_asked_changes_nothing():
    np.testing.assert_array_equal(degrade(scene(), ""), scene())


@pytest.mark.parametrize(
    "how",
    ["blur 3", "jpeg", "jpeg 70 2", "jpeg 0", "jpeg 101", "jpeg 7.5", "jpeg high", "scale 0", "scale 5", "scale nan",
     "traces 0.5", "messenger 1600", "messenger 0 75", "noise -1"],
)  # fmt: skip
def test_what_is_no_degradation_is_refused_with_what_is(how):
    with pytest.raises(ValueError, match=rf"degradation '{how}': write one of jpeg QUALITY, scale FACTOR, traces"):
        degrade(scene(), how)


@pytest.mark.parametrize("factor", [0.5, 0.75])
def test_a_shrunk_image_begins_with_the_photo_made_smaller_and_goes_on_mirrored(factor):
    photo, small = scene(96, 96), round(96 * factor)
    image = levels(degradation.shrunk(tensor(photo), torch.tensor([factor])))[0].astype(int)
    assert abs(image[:small, :small] - degrade(photo, f"scale {factor}")).max() <= 1  # Pillow rounds in between
    rest = 96 - small
    np.testing.assert_array_equal(image[small:], image[small - rest : small][::-1])
    np.testing.assert_array_equal(image[:, small:], image[:, small - rest : small][:, ::-1])


def test_each_image_shrinks_by_its_own_factor():
    photos = [scene(64, 64, seed) for seed in range(3)]
    factors = torch.tensor([1.0, 0.4, 0.7])
    images = levels(degradation.shrunk(tensor(*photos), factors))
    np.testing.assert_array_equal(images[0], photos[0])
    for i in (1, 2):
        np.testing.assert_array_equal(images[i], levels(degradation.shrunk(tensor(photos[i]), factors[i : i + 1]))[0])


def test_noise_of_images_has_each_its_deviation():
    torch.manual_seed(0)
    grey = np.full((64, 64, 3), 128, np.uint8)
    images = levels(degradation.noisy(tensor(grey, grey, grey), torch.tensor([0.0, 2.0, 5.0]))).astype(float)
    np.testing.assert_allclose(images.std(axis=(1, 2, 3)), [0, (4 + 1 / 12) ** 0.5, (25 + 1 / 12) ** 0.5], rtol=0.04)


def test_a_recompressed_image_is_a_real_jpeg_with_the_grid_anywhere():
    torch.manual_seed(3)
    photo = scene(48, 48)
    padded = np.pad(photo, ((15, 0), (15, 0), (0, 0)), "reflect")
    real = {(y, x): through_jpeg(padded[y:, x:], 60)[-48:, -48:].tobytes() for y in range(16) for x in range(16)}
    images = levels(degradation.recompressed(tensor(*[photo] * 12), torch.full((12,), 60.0)))
    found = [[start for start, jpeg in real.items() if jpeg == image.tobytes()] for image in images]
    assert all(found) and len({starts[0] for starts in found}) > 6


def test_each_image_has_its_own_quality():
    torch.manual_seed(0)
    photo = scene(64, 64)
    images = levels(degradation.recompressed(tensor(photo, photo, photo), torch.tensor([95.0, 60.0, 10.0])))
    errors = abs(images.astype(int) - photo).mean(axis=(1, 2, 3))
    assert errors[0] < errors[1] < errors[2]


def test_every_image_gets_its_own_draws_and_a_seed_repeats_them():
    augment, batch = DegradationAugmentation(), tensor(*[scene(64, 64)] * 64)
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


def test_without_any_chance_images_are_only_flipped():
    torch.manual_seed(0)
    photo = scene(64, 64)
    images = levels(DegradationAugmentation(p_scale=0, p_noise=0, p_jpeg=0)(tensor(*[photo] * 8)))
    assert {image.tobytes() for image in images} == {photo.tobytes(), photo[:, ::-1].tobytes()}


@pytest.mark.parametrize(
    "change",
    [{"p_scale": 0.1}, {"factors": (0.5, 1.0)}, {"p_noise": 0.1}, {"deviations": (1.0, 4.0)}, {"p_jpeg": 0.1},
     {"qualities": (60, 95)}],
)  # fmt: skip
def test_every_setting_shows_in_the_text_that_names_a_run(change):
    assert repr(DegradationAugmentation(**change)) != repr(DegradationAugmentation())


@pytest.mark.parametrize(
    ("change", "message"),
    [({"factors": (0.5, 1.5)}, "only made smaller"), ({"factors": (0.0, 1.0)}, "factors"),
     ({"qualities": (90, 50)}, "the lower first"), ({"p_jpeg": 2.0}, "p_jpeg")],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        DegradationAugmentation(**change)
