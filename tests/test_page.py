"""The page in a real browser: the same answers as Python's, "none of them", splices, bad files, and no other host."""

import base64
import io
import json
import re
import shutil
import struct
import threading
import zlib
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import onnx
import pytest
import simplejpeg
import torch
from PIL import Image, ImageCms

from camid_utils import degradation, demo, identify, models, simulate

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
if not CHROMIUM:
    pytest.skip("chromium is not installed", allow_module_level=True)
if not shutil.which("npm"):
    pytest.skip("npm is not installed", allow_module_level=True)

expect = sync_api.expect
expect.set_options(timeout=60_000)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]  # fmt: skip
RED, BLUE, PURPLE = (200, 40, 40), (40, 40, 200), (90, 40, 40)
NAMES = ["Zeta_9", "Alpha_10", "Mid_5", "Alpha_2", "Beta_1", "Omega_0"]  # in no order that a sort would give


def textures() -> models.Model:
    """Random filters, scaled so that what each piece of a photo looks like is decided sharply, and for every camera."""
    torch.manual_seed(3)
    net = models.CameraConvNet(len(NAMES), width=0.04)
    pieces = np.stack([texture(48, 48, seed) for seed in range(64)])
    pieces = models.to_input(torch.from_numpy(pieces).permute(0, 3, 1, 2), "imagenet")
    models.initialise(net, pieces).eval()
    with torch.no_grad():
        net.classifier[-1].weight *= 3
        net.classifier[-1].bias -= net(pieces).mean(0)  # no camera is the answer to everything
    return models.Model(net, NAMES, 48, "imagenet", {"dataset": "simulated FloreView", "kind": "grid"})


def colours() -> models.Model:
    """A network whose weights are set by hand: red of one camera, blue of another, a red of 90 of neither for sure."""
    net = models.CameraConvNet(2, width=0.01).eval()
    for parameter in net.parameters():
        torch.nn.init.zeros_(parameter)
    with torch.no_grad():
        first, last = net.features[0], net.classifier[-1]
        first.weight[0, 0, 3, 3], first.weight[0, 2, 3, 3] = 1.0, -1.0  # red less blue, where that is positive
        net.features[3].weight[0, 0, 3, 3] = 1.0
        net.features[7].weight[0] = 1 / 36
        net.classifier[0].weight[0, 0] = 1.0
        last.weight[1, 0], last.bias[0] = 0.1, 5.0
    facts = {"temperature": 1.5, "score": "clarity", "threshold": 0.9, "known_refused": 0.05, "unknown_accepted": 0.3}
    info = {"dataset": "photographs of a test", "kind": "random", "identification": facts}
    return models.Model(net, ["Cold_Blue", "Warm_Red"], 48, "0..255", info)


def lite() -> models.Model:
    """The network of the study's best recipe, random, but for running statistics that are not those of a new one."""
    torch.manual_seed(0)
    net = models.EfficientNetClassifier(4, "efficientnet_lite0", weights=None)
    with torch.no_grad():
        net(torch.randn(8, 3, 64, 64))
        net.classifier[-1].weight *= 20
    return models.Model(net.eval(), NAMES[:4], 64, "imagenet", {"dataset": "simulated FloreView", "kind": "grid"})


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The page of `textures`; here npm runs, once."""
    return demo.build(textures(), tmp_path_factory.mktemp("textures") / "page")


@pytest.fixture(scope="module")
def colour_site(site, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("colours") / "page"
    shutil.copytree(site, folder)
    return demo.build(colours(), folder)


@contextmanager
def served(server: ThreadingHTTPServer):
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def url(site):
    with served(demo.server(site)) as address:
        yield address


@pytest.fixture(scope="module")
def colour_url(colour_site):
    with served(demo.server(colour_site)) as address:
        yield address


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def opened(browser):
    """Opens a page and waits until it is ready; fails if the page reports an error or asks any other host."""
    contexts, faults = [], []

    def open_page(address: str, **options):
        context = browser.new_context(**options)
        contexts.append(context)

        def guard(route):
            if route.request.url.startswith((address, "data:", "blob:")):
                return route.continue_()
            faults.append(f"asked {route.request.url}")
            return route.abort()

        context.route("**/*", guard)
        page = context.new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
        page.goto(address)
        expect(page.locator("#status")).to_have_text("Ready.")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not faults


def give(page, *photos) -> list:
    """Choose files (paths, or pairs of name and bytes) and wait for all answers; returns the cards."""
    before = page.locator(".card").count()
    pairs = [(photo.name, photo.read_bytes()) if isinstance(photo, Path) else photo for photo in photos]
    page.set_input_files("#files", [{"name": name, "mimeType": "", "buffer": content} for name, content in pairs])
    expect(page.locator(".card .answer:visible, .card .problem:visible")).to_have_count(before + len(photos))
    return page.locator(".card").all()[before:]


def probabilities(card) -> dict[str, float]:
    """All cameras' probabilities on a card, in the order shown."""
    items = card.locator(".bars li").all()
    return {item.get_attribute("data-camera"): float(item.get_attribute("data-probability")) for item in items}


def texture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A photo of coarse and fine texture, other in each of its parts."""
    rng = np.random.default_rng([seed, height, width])
    coarse = rng.integers(0, 200, (-(-height // 40), -(-width // 40), 3)).repeat(40, 0).repeat(40, 1)[:height, :width]
    grain = rng.integers(0, 1 + np.linspace(4, 110, width)[None, :, None].astype(int), (height, width, 3))
    return np.clip(coarse + grain, 0, 255).astype(np.uint8)


def jpeg(pixels: np.ndarray, subsampling: str = "420", quality: int = 90) -> bytes:
    return simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), quality, "RGB", subsampling)


def saved(image: Image.Image, form: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def turned(image: Image.Image, orientation: int = 6) -> bytes:
    """A JPEG as phones write it: turned by its EXIF, and with a colour profile far from sRGB."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    return saved(image, "JPEG", quality=88, exif=exif, icc_profile=profile)


def all_kinds() -> dict[str, bytes]:
    """Photos in every form that the page reads, each with other content and of odd size."""
    images = [Image.fromarray(texture(210 + 7 * i, 331 - 10 * i, i)) for i in range(9)]
    alpha = images[5].copy()
    alpha.putalpha(Image.fromarray(texture(*images[5].size[::-1], 7)[..., 0]))
    return {
        "full.jpg": jpeg(np.asarray(images[0]), "444", 60),
        "half.jpeg": jpeg(np.asarray(images[1]), "422"),
        "quarter.JPG": jpeg(np.asarray(images[2]), "420"),
        "upright.jpg": jpeg(np.asarray(images[3]), "440"),
        "progressive.jpg": saved(images[4], "JPEG", progressive=True, quality=80),
        "phone photo é.jpg": turned(images[5]),
        "grey.jpg": saved(images[6].convert("L"), "JPEG", quality=85),
        "plain.png": saved(images[7], "PNG"),
        "alpha.png": saved(alpha, "PNG"),
        "grey.png": saved(images[8].convert("L"), "PNG"),
        "palette.png": saved(images[1].quantize(64), "PNG"),
        "exactly a piece.png": saved(images[2].crop((0, 0, 48, 48)), "PNG"),
    }


def python_answer(path: Path, model: models.Model) -> dict:
    seen = identify.look(identify.read(path), model)
    return identify.answer(seen.log_probs, seen.features, model)


def agrees(card, expected: dict) -> None:
    """One card says what Python says: every probability to 1e-3, and the number of patches."""
    shown = probabilities(card)
    assert shown == pytest.approx(dict(expected["cameras"]), abs=1e-3)
    assert list(shown.values()) == sorted(shown.values(), reverse=True)
    if not expected["unknown"]:
        assert card.locator(".verdict").inner_text() == expected["cameras"][0][0].replace("_", " ")
    pieces = f"{expected['agreed']} of {expected['patches']} pieces"
    assert (pieces if expected["patches"] > 1 else "as a whole") in card.locator(".facts").inner_text()


def test_every_probability_agrees_with_python(opened, url, tmp_path):
    """Several photos at once: all of our forms, and photos by simulated cameras as they came out of them."""
    for name, content in all_kinds().items():
        (tmp_path / name).write_bytes(content)
    simulate.simulate_floreview(tmp_path / "phones", models=3, devices=1, scenes=1, size=(320, 240), workers=1)
    photos = [*(tmp_path / name for name in all_kinds()), *sorted(tmp_path.glob("phones/**/*.jpg"))]
    assert len(photos) == 15
    cards = give(opened(url), *photos)
    model, likeliest = textures(), set()
    for card, path in zip(cards, photos, strict=True):
        assert card.locator(".name").inner_text() == path.name
        expected = python_answer(path, model)
        agrees(card, expected)
        likeliest.add(expected["cameras"][0][0])
    assert len(likeliest) > 2  # one answer for all would agree too easily


def test_patches_lie_where_python_puts_them(opened, url):
    sizes = [(48, 48), (48, 50), (49, 49), (480, 640), (3024, 4032), (4032, 3024), (6000, 9000), (50, 12000)]
    layouts = [(48, identify.PATCHES), (96, 24), (1, 7)]
    asked = [(*photo, *layout) for photo in sizes for layout in layouts if min(photo) >= layout[0]]
    script = "async (asked) => (await import('./answer.js')).positions(...asked)"
    page = opened(url)
    for numbers in asked:
        assert page.evaluate(script, list(numbers)) == identify.positions(*numbers).tolist()


def test_the_probabilities_of_an_efficientnet_agree_too(opened, site, tmp_path):
    folder = tmp_path / "page"
    shutil.copytree(site, folder)
    demo.build(lite(), folder)
    with served(demo.server(folder)) as address:
        cards = give(opened(address), *((name, all_kinds()[name]) for name in ("full.jpg", "plain.png")))
    for card, name in zip(cards, ("full.jpg", "plain.png"), strict=True):
        (tmp_path / name).write_bytes(all_kinds()[name])
        agrees(card, python_answer(tmp_path / name, lite()))


def test_a_network_of_whole_photos_agrees_too(opened, site, tmp_path):
    """It gets every photo squashed: wide and tall ones, grey ones, and one just as large as its input."""
    model = textures()._replace(info={"dataset": "simulated FloreView", "kind": "resize"})
    folder = tmp_path / "page"
    shutil.copytree(site, folder)
    demo.build(model, folder)
    kinds = all_kinds()
    small = {
        f"{w}x{h}.png": saved(Image.fromarray(texture(h, w, w)), "PNG") for w, h in [(49, 50), (48, 300), (140, 220)]
    }
    photos = {name: kinds[name] for name in ("full.jpg", "grey.jpg", "alpha.png", "exactly a piece.png")} | small
    with served(demo.server(folder)) as address:
        page = opened(address)
        cards = give(page, *photos.items())
        shown = [page.locator(name).get_attribute("hidden") is None for name in ("#as-a-whole", "#in-pieces")]
        assert shown == [True, False]
    likeliest = set()
    for card, (name, content) in zip(cards, photos.items(), strict=True):
        (tmp_path / name).write_bytes(content)
        expected = python_answer(tmp_path / name, model)
        agrees(card, expected)
        likeliest.add(expected["cameras"][0][0])
    assert len(likeliest) > 1


def test_squashed_pixels_are_those_of_pillow(opened, url):
    script = """async ({ pixels, width, height, size }) => {
        const { squashed } = await import('./pixels.js');
        const data = Uint8Array.from(atob(pixels), (byte) => byte.charCodeAt(0));
        return [...squashed({ data, channels: 3, width, height }, size)];
    }"""
    page = opened(url)
    for height, width, size in [
        (301, 467, 64),
        (64, 64, 64),
        (20, 31, 64),
        (65, 1000, 50),
        (1, 7, 5),
        (512, 384, 224),
        (200, 47, 48),
        (640, 360, 96),
        (88, 80, 79),
    ]:
        pixels = np.random.default_rng(height).choice([0, 3, 90, 255], (height, width, 3)).astype(np.uint8)
        given = {"pixels": base64.b64encode(pixels.tobytes()).decode(), "width": width, "height": height, "size": size}
        assert page.evaluate(script, given) == degradation.resized(pixels, size, size).ravel().tolist()


@pytest.mark.parametrize("score", identify.SCORES)
def test_the_score_of_an_answer_is_that_of_python(opened, url, score):
    rng = np.random.default_rng(5)
    logs, features = np.log(rng.dirichlet(np.ones(3), 7)), rng.normal(0, 1, (7, 5))
    facts = {"temperature": 0.7, "score": score, "threshold": 0.5, "means": rng.normal(0, 1, (3, 5)).tolist()}
    script = "async (given) => (await import('./answer.js')).answer(...given)"
    given = [logs.tolist(), features.tolist(), {"class_names": NAMES[:3], "identification": facts}]
    found = opened(url).evaluate(script, given)
    expected = identify.answer(logs, features, models.Model(None, NAMES[:3], 48, "0..255", {"identification": facts}))
    assert found["score"] == pytest.approx(expected["score"]) and found["unknown"] == expected["unknown"]


def test_labels_are_those_of_the_file_in_its_order(opened, site, tmp_path):
    folder = tmp_path / "page"
    shutil.copytree(site, folder)
    graph = onnx.load(folder / "model.onnx")
    facts = json.loads(graph.metadata_props[0].value)
    onnx.helper.set_model_props(graph, {demo.METADATA: json.dumps(facts | {"class_names": NAMES[::-1]})})
    onnx.save(graph, folder / "model.onnx")
    content = all_kinds()["full.jpg"]
    (tmp_path / "photo.jpg").write_bytes(content)
    with served(demo.server(folder)) as address:
        page = opened(address)
        (card,) = give(page, ("photo.jpg", content))
        assert page.locator("#known li").all_text_contents() == [name.replace("_", " ") for name in NAMES[::-1]]
    agrees(card, python_answer(tmp_path / "photo.jpg", textures()._replace(class_names=NAMES[::-1])))


def flat(left: tuple, right: tuple, height: int = 300, width: int = 400) -> np.ndarray:
    """A photo of two colours, side by side."""
    pixels = np.empty((height, width, 3), np.uint8)
    pixels[:, : width // 2], pixels[:, width // 2 :] = left, right
    return pixels


def test_a_photo_by_no_known_camera(opened, colour_url):
    page = opened(colour_url)
    about = page.locator("#about").inner_text()
    assert "photographs of a test" in about and "knows 2 cameras" in about and "5 %" in about and "30 %" in about
    expect(page.locator("#fiction")).to_be_hidden()
    known, unknown = give(page, *((f"{c}.png", saved(Image.fromarray(flat(c, c)), "PNG")) for c in (RED, PURPLE)))
    assert known.locator(".verdict").inner_text() == "Warm Red"
    assert unknown.locator(".verdict").inner_text() == "None of the known cameras"
    assert probabilities(unknown) == pytest.approx({"Cold_Blue": 0.5, "Warm_Red": 0.5}, abs=1e-3)
    expect(unknown.locator(".remark")).to_be_visible()
    expect(page.locator("#status")).to_have_text(f"{PURPLE}.png: None of the known cameras.")


def test_a_model_of_simulated_cameras_says_so(opened, url):
    page = opened(url)
    note = page.locator("#fiction")
    expect(note).to_contain_text("simulated FloreView")
    expect(note).to_contain_text("cameras that do not exist")
    expect(page.locator("#errors")).to_contain_text("always names one of them")


def pixel(card, x: float, y: float) -> list[int]:
    """A point of the picture, given as shares of its width and height."""
    script = """(canvas, [x, y]) =>
      [...canvas.getContext("2d").getImageData(x * canvas.width, y * canvas.height, 1, 1).data].slice(0, 3)"""
    return card.locator("canvas").evaluate(script, [x, y])


def covered(colour: tuple, by: str, alpha: float) -> list[int]:
    """A colour under another one (as #rrggbb) of some opacity."""
    return [round((1 - alpha) * a + alpha * b) for a, b in zip(colour, bytes.fromhex(by[1:]), strict=True)]


def test_the_map_shows_a_splice(opened, colour_url):
    photo = flat(RED, BLUE)
    page = opened(colour_url)
    (card,) = give(page, ("splice.png", saved(Image.fromarray(photo), "PNG")))
    best = identify.look(photo, colours()).log_probs.argmax(axis=1)
    expect(card.locator(".legend")).to_have_text(f"Warm Red, {(best == 1).sum()}Cold Blue, {(best == 0).sum()}")
    assert f"{(best == 1).sum()} like Warm Red" in card.locator("canvas").get_attribute("aria-label")
    for y in (0.05, 0.5, 0.95):
        assert pixel(card, 0.1, y) == pytest.approx(covered(RED, "#1f6f8b", 0.6), abs=2)
        assert pixel(card, 0.9, y) == pytest.approx(covered(BLUE, "#edae49", 0.6), abs=2)
    card.locator(".toggle").click()
    assert (pixel(card, 0.1, 0.5), pixel(card, 0.9, 0.5)) == ([*RED], [*BLUE])
    card.locator(".toggle").click()
    assert pixel(card, 0.1, 0.5) != [*RED]


@pytest.mark.parametrize("orientation, red_at", [(1, (0.1, 0.5)), (3, (0.9, 0.5)), (6, (0.5, 0.1)), (8, (0.5, 0.9))])
def test_a_turned_photo_is_drawn_upright_with_its_map(opened, colour_url, orientation, red_at):
    content = turned(Image.fromarray(flat(RED, BLUE)), orientation)
    (card,) = give(opened(colour_url), ("turned.jpg", content))
    size = card.locator("canvas").evaluate("(canvas) => [canvas.width, canvas.height]")
    assert size == ([300, 400] if orientation > 4 else [400, 300])
    blue_at = [1 - share for share in red_at]
    assert pixel(card, *red_at) == pytest.approx(covered(RED, "#1f6f8b", 0.6), abs=4)
    assert pixel(card, *blue_at) == pytest.approx(covered(BLUE, "#edae49", 0.6), abs=4)


def with_frame(content: bytes, height: int, width: int) -> bytes:
    """A JPEG whose header claims another size."""
    at = content.index(b"\xff\xc0") + 5
    return content[:at] + struct.pack(">HH", height, width) + content[at + 4 :]


def deep_png() -> bytes:
    """A PNG of 16 bits a sample, 60 x 60, black."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    lines = zlib.compress(60 * (b"\0" + bytes(60 * 6)))
    header = struct.pack(">IIBBBBB", 60, 60, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", lines) + chunk(b"IEND", b"")


def bad_files() -> dict[str, tuple[bytes, str]]:
    image = Image.fromarray(texture(200, 300))
    whole, png = saved(image, "JPEG"), saved(image, "PNG")
    return {
        "notes.jpg": (b"Dear diary, today I took a photo.", "is not a photo. Choose a JPEG or a PNG"),
        "empty.jpg": (b"", "is empty"),
        "IMG_1.HEIC": (b"\0\0\0\x18ftypheic" + bytes(40), "is a HEIC photo.*Most Compatible"),
        "loop.gif": (saved(image, "GIF"), "is a GIF picture"),
        "modern.webp": (saved(image, "WEBP"), "is a WebP picture"),
        "clip.mp4": (b"\0\0\0\x18ftypisom" + bytes(40), "is a video"),
        "scan.tif": (saved(image, "TIFF"), "raw photo or a TIFF"),
        "cut.jpg": (whole[: len(whole) * 2 // 3], "damaged or cut short"),
        "head.jpg": (whole[:30], "damaged or cut short"),
        "flipped.png": (png[:200] + bytes([png[200] ^ 1]) + png[201:], "damaged or cut short"),
        "cut.png": (png[: len(png) // 2], "damaged or cut short"),
        "after.png": (png[:20], "damaged or cut short"),
        "print.jpg": (saved(image.convert("CMYK"), "JPEG"), "is a CMYK JPEG"),
        "deep.png": (deep_png(), "16 bits"),
        "huge.jpg": (with_frame(whole, 60_000, 60_000), "claims to be 60000 × 60000 pixels"),
        "wide.jpg": (with_frame(whole, 16_000, 16_000), "damaged or cut short"),
        "thumb.jpg": (saved(image.resize((47, 200)), "JPEG"), "has 47 × 200 pixels.*original photo"),
        "<img src=x>.jpg": (b"<script>alert(1)</script>", "is not a photo"),
    }


def test_bad_files_get_a_kind_word_and_the_page_goes_on(opened, url, tmp_path):
    good = all_kinds()["plain.png"], all_kinds()["full.jpg"]
    for name, content in zip(("photo.png", "photo.jpg"), good, strict=True):
        (tmp_path / name).write_bytes(content)
    page = opened(url)
    bad = [(name, content) for name, (content, _) in bad_files().items()]
    cards = give(page, *bad, tmp_path / "photo.png", tmp_path / "photo.jpg")
    for card, (name, (_, reason)) in zip(cards, bad_files().items()):  # noqa: B905 - two good ones follow
        text = card.locator(".problem").inner_text()
        assert text.startswith(f"{name} ") and re.search(reason, text), text
    agrees(cards[-2], python_answer(tmp_path / "photo.png", textures()))
    agrees(cards[-1], python_answer(tmp_path / "photo.jpg", textures()))


def test_without_any_network_once_it_is_ready(opened, url, tmp_path):
    page = opened(url)
    page.context.set_offline(True)
    for card in give(page, *((n, c) for n, c in all_kinds().items() if n in ("full.jpg", "plain.png"))):
        expect(card.locator(".verdict")).not_to_be_empty()


def test_a_worker_that_cannot_start_again_is_said(browser, url):
    content = all_kinds()["full.jpg"]
    files = [{"name": f"{i}.jpg", "mimeType": "", "buffer": content} for i in range(5)]
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(url)
        expect(page.locator("#status")).to_have_text("Ready.")
        context.set_offline(True)
        page.set_input_files("#files", files)
        page.locator("#clear").click()  # while it works: the worker is started anew
        expect(page.locator("#status")).to_contain_text("Reload the page")
        page.set_input_files("#files", files)
        expect(page.locator("#status")).to_contain_text("Reload it")
        expect(page.locator(".card")).to_have_count(0)


def test_a_photo_of_54_megapixels_leaves_the_page_alive(opened, url, tmp_path):
    tile = texture(1000, 1000)
    (tmp_path / "large.jpg").write_bytes(jpeg(np.tile(tile, (6, 9, 1))))
    page = opened(url)
    page.set_input_files("#files", tmp_path / "large.jpg")
    card = page.locator(".card")
    expect(card.locator(".stage")).to_have_text(re.compile("Decoding|Looking"))
    meanwhile = page.evaluate("""async () => {
      const [summary, answer] = [document.querySelector("#about summary"), document.querySelector(".card .answer")];
      summary.click();
      await new Promise(requestAnimationFrame);
      return [summary.parentElement.open, answer.hidden];
    }""")
    assert meanwhile == [True, True]  # a click was answered and a frame drawn while the photo was worked on
    expect(card.locator(".answer")).to_be_visible()
    expect(card.locator(".facts")).to_contain_text("9000 × 6000 pixels")
    agrees(card, python_answer(tmp_path / "large.jpg", textures()))
    width = card.locator("canvas").evaluate("(canvas) => canvas.width")
    assert width <= 1200  # what is drawn is a small copy


def test_photos_dropped_and_pasted(opened, url):
    page = opened(url)
    script = """([kind, name, bytes]) => {
      const data = new DataTransfer();
      if (name) data.items.add(new File([new Uint8Array(bytes)], name));
      const options = { bubbles: true, cancelable: true };
      const paste = () => new ClipboardEvent("paste", { ...options, clipboardData: data });
      dispatchEvent(kind === "paste" ? paste() : new DragEvent("drop", { ...options, dataTransfer: data }));
    }"""
    content = list(all_kinds()["full.jpg"])
    for kind, text in (("paste", "no photo in the clipboard"), ("drop", "not a file")):
        page.evaluate(script, [kind, "", []])
        expect(page.locator("#status")).to_contain_text(text)
    page.evaluate(script, ["paste", "pasted.jpg", content])
    page.evaluate(script, ["drop", "dropped.jpg", content])
    expect(page.locator(".card .answer:visible")).to_have_count(2)
    first, second = page.locator(".card").all()
    assert (first.locator(".name").inner_text(), second.locator(".name").inner_text()) == ("pasted.jpg", "dropped.jpg")
    assert probabilities(first) == probabilities(second)


def test_with_the_keyboard_alone(opened, url, tmp_path):
    (tmp_path / "photo.jpg").write_bytes(all_kinds()["full.jpg"])
    page = opened(url)
    page.on("filechooser", lambda chooser: None)  # from now on, not only while it is expected: that may come too late
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "choose"
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    assert chooser.value.is_multiple()
    chooser.value.set_files(tmp_path / "photo.jpg")
    expect(page.locator(".card .answer")).to_be_visible()
    expect(page.locator("#status")).to_contain_text("photo.jpg:")  # what a screen reader reads out
    page.keyboard.press("Tab")
    toggle = page.get_by_role("button", name="Map")
    expect(toggle).to_be_focused()
    assert toggle.evaluate("(button) => getComputedStyle(button).outlineStyle") == "solid"
    page.keyboard.press("Space")
    expect(toggle).to_have_attribute("aria-pressed", "false")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator(".rest .bars")).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.locator("#clear")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator(".card")).to_have_count(0)
    assert page.evaluate("document.activeElement.id") == "choose"


def test_cleared_while_it_works(opened, url, tmp_path):
    page = opened(url)
    content = all_kinds()["full.jpg"]
    page.set_input_files("#files", [{"name": f"{i}.jpg", "mimeType": "", "buffer": content} for i in range(5)])
    page.locator("#clear").click()
    expect(page.locator(".card")).to_have_count(0)
    (card,) = give(page, ("after.jpg", content))
    assert card.locator(".name").inner_text() == "after.jpg"


def test_from_a_folder_of_any_static_host(opened, site, tmp_path):
    """No special headers, not at the root: the page works, on one core."""
    (tmp_path / "some where").mkdir()
    shutil.copytree(site, tmp_path / "some where" / "page")
    (tmp_path / "photo.png").write_bytes(all_kinds()["plain.png"])
    handler = partial(QuietHandler, directory=str(tmp_path))
    with served(ThreadingHTTPServer(("127.0.0.1", 0), handler)) as address:
        page = opened(f"{address}/some%20where/page/")
        assert page.evaluate("crossOriginIsolated") is False
        (card,) = give(page, tmp_path / "photo.png")
    agrees(card, python_answer(tmp_path / "photo.png", textures()))


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_) -> None:
        pass


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_nothing_is_wider_than_the_screen(opened, url, scheme):
    page = opened(url, viewport={"width": 320, "height": 640}, color_scheme=scheme)
    give(page, ("A_very_long_name_" * 8 + ".jpg", all_kinds()["full.jpg"]), ("x" * 100, b"text"))
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", paper))) < 200) == (scheme == "dark")


def test_several_cores_where_the_server_allows_them(opened, url):
    assert opened(url).evaluate("crossOriginIsolated") is True
