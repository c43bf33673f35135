"""The page in a real browser: Python's answers, maps, bad files, keyboard and screen readers, and no other host."""

import json
import re
import shutil
import tempfile
import threading
from contextlib import contextmanager
from functools import cache, partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import simplejpeg
import torch
from helpers import CHROMIUM, colour_net, encoded, halves
from PIL import Image, ImageCms
from playwright.sync_api import expect
from test_photos import BAD_FILES, ODD, with_frame

from camid_utils import models
from camid_utils.identify import page, predict
from camid_utils.photos import header_key, read_noted

pytestmark = pytest.mark.skipif(not (CHROMIUM and shutil.which("npm")), reason="needs chromium and npm")
expect.set_options(timeout=60_000)
RED, BLUE, PURPLE = (200, 40, 40), (40, 40, 200), (90, 40, 40)
NAMES = ["Zeta_9", "Alpha_10", "Mid_5", "Alpha_2", "Beta_1", "Omega_0"]  # in no order that a sort would give


def textures() -> models.Model:
    """Random filters, scaled so that patches of texture differ clearly, and every camera is some patch's answer."""
    torch.manual_seed(3)
    net = models.CameraConvNet(len(NAMES), width=0.04)
    patches = torch.from_numpy(np.stack([texture(48, 48, seed) for seed in range(64)])).permute(0, 3, 1, 2)
    patches = models.to_input(patches, "imagenet")
    models.initialise(net, patches).eval().requires_grad_(False)
    net.classifier[-1].weight *= 3
    net.classifier[-1].bias -= net(patches).mean(0)
    info = {"dataset": "simulated FloreView", "kind": "grid"} | headers()
    return models.Model(net, NAMES, 48, "imagenet", info)


@cache
def headers() -> dict[str, dict]:
    """The header and size of every other photo below as those of one to five cameras, in turn."""
    rows, contents = [], list(all_photos().values())[::2]
    with tempfile.TemporaryDirectory() as folder:
        for i, content in enumerate(contents):
            (path := Path(folder, str(i))).write_bytes(content)
            rows += [(path, *read_noted(path)[0].shape[:2], NAMES[(i + k) % 6]) for k in range(5 - i % 5)]
        table = pd.DataFrame(rows, columns=["path", "height", "width", "camera_model"])
        return predict.seen_headers(table) | predict.seen_sizes(table)


def colours() -> models.Model:
    """Weights set by hand: red is one camera's, blue another's, PURPLE neither's for sure."""
    net = colour_net(2, weight=[[0.0, 0.0, 0.0], [0.1, 0.0, -0.1]], bias=[5.0, 0.0])
    facts = dict(temperature=1.5, score="confidence", threshold=0.9, known_refused=0.05, photos=40,
                 unknown_accepted=0.3, unknown_photos=19, splice_threshold=0.5, splice_false_alarms=0.02,
                 splice_detected=0.71, elsewhere=dict(photos=9, named=0.5, misnamed=0.3, refused=0.2))  # fmt: skip
    info = {"dataset": "photographs of a test", "kind": "random", "identification": facts}
    return models.Model(net, ["Cold_Blue", "Warm_Red"], 48, "0..255", info)


@contextmanager
def served(server: ThreadingHTTPServer):
    with server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="session")
def site(tmp_path_factory) -> Path:
    """The page of `textures`; npm runs here, once."""
    return page.build(textures(), tmp_path_factory.mktemp("textures") / "page")


@pytest.fixture(scope="session")
def url(site):
    with served(page.server(site)) as address:
        yield address


@pytest.fixture(scope="session")
def colour_url(site, tmp_path_factory):
    folder = shutil.copytree(site, tmp_path_factory.mktemp("colours") / "page")
    with served(page.server(page.build(colours(), folder))) as address:
        yield address


def give(tab, photos: dict[str, bytes]) -> list:
    """Choose files and wait for all answers; returns the cards."""
    before = tab.locator(".card").count()
    tab.set_input_files("#files", [{"name": n, "mimeType": "", "buffer": content} for n, content in photos.items()])
    expect(tab.locator(".card .answer:visible, .card .problem:visible")).to_have_count(before + len(photos))
    return tab.locator(".card").all()[before:]


def agrees(card, content: bytes, model: models.Model, folder: Path) -> tuple[str, str]:
    """One card says what Python says of a file: every probability to 1e-3, votes, note, header. Gives the last two."""
    (folder / "photo").write_bytes(content)
    pixels, note = read_noted(folder / "photo")
    corners, logits, features = predict.predict_photo(pixels, model)
    key, size = header_key(folder / "photo", *pixels.shape[:2]), predict.size_key(*pixels.shape[:2])
    expected = predict.combine(logits, features, model, size) | predict.compare_parts(corners, logits, model)
    told = predict.compare_header(key, size, expected, model)
    basis, possible = told["rests_on"], len(told["size"]) or len(model.class_names)
    assert card.locator(".basis").inner_text() == basis
    items = card.locator(".bars li").all()
    shown = {i.get_attribute("data-camera"): float(i.get_attribute("data-probability")) for i in items}
    assert shown == pytest.approx(dict(expected["cameras"][:possible] * (possible > 1)), abs=1e-3)
    assert list(shown.values()) == sorted(shown.values(), reverse=True)
    assert card.locator(".notes").inner_text() == (note and f"It is {note}.")
    first = expected["cameras"][0][0]
    assert card.locator(".verdict").inner_text() == first.replace("_", " ")
    votes = f"{expected['votes']} of {expected['patches']} patches vote for"
    assert (votes in card.locator(".facts").inner_text()) == (possible > 1)
    return first, basis


def texture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A photo of coarse and fine texture that differs from part to part."""
    rng = np.random.default_rng([seed, height, width])
    coarse = rng.integers(0, 200, (-(-height // 40), -(-width // 40), 3)).repeat(40, 0).repeat(40, 1)[:height, :width]
    grain = rng.integers(0, 1 + np.linspace(4, 110, width)[None, :, None].astype(int), (height, width, 3))
    return np.clip(coarse + grain, 0, 255).astype(np.uint8)


def turned(pixels: np.ndarray, orientation: int = 6) -> bytes:
    """A JPEG as phones write it: turned by its EXIF, here with a colour profile far from sRGB."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    return encoded(pixels, quality=88, exif=exif, icc_profile=profile)


def all_kinds() -> dict[str, bytes]:
    """Photos in every form that the page reads, each with other content and of odd size."""
    pixels = [texture(210 + 7 * i, 331 - 10 * i, i) for i in range(9)]
    images = [Image.fromarray(one) for one in pixels]
    alpha = images[5].copy()
    alpha.putalpha(images[5].convert("L"))
    jpegs = [simplejpeg.encode_jpeg(pixels[i], 60 + 10 * i, "RGB", ("444", "422", "420", "440")[i]) for i in range(4)]
    return {f"{i}.jpg": jpeg for i, jpeg in enumerate(jpegs)} | {
        "progressive.JPG": encoded(images[4], "JPEG", progressive=True, quality=80),
        "phone photo é.jpeg": turned(pixels[5]),
        "grey.jpg": encoded(images[6].convert("L"), "JPEG", quality=85),
        "plain.png": encoded(images[7], "PNG"),
        "alpha.png": encoded(alpha, "PNG"),
        "grey.png": encoded(images[8].convert("L"), "PNG"),
        "palette.png": encoded(images[1].quantize(64), "PNG"),
        "one patch.png": encoded(images[2].crop((0, 0, 48, 48)), "PNG"),
        "restart.jfif": encoded(images[3], "JPEG", restart_marker_blocks=3),
        "rgb.jpe": encoded(images[6], "JPEG", keep_rgb=True),
        "411.jif": simplejpeg.encode_jpeg(pixels[7], 80, "RGB", "411"),
        "video behind it.jpg": jpegs[2] + b"\0\0\0\x18ftypmp42",
    }


def all_photos() -> dict[str, bytes]:
    """Those, and JPEGs that break the standard and yet are whole: viewers show them without complaint."""
    return all_kinds() | {f"{name}.jpg": content for name, (content, _) in ODD.items()}


PHOTO = simplejpeg.encode_jpeg(texture(210, 331), 60)


def test_every_probability_agrees_with_python_without_a_network(opened, url, tmp_path):
    photos = all_photos()
    tab, model = opened(url), textures()
    tab.context.set_offline(True)
    said = [agrees(card, photos[name], model, tmp_path) for card, name in zip(give(tab, photos), photos, strict=True)]
    first, basis = zip(*said, strict=True)
    assert len(set(first)) > 2  # one answer for all would agree too easily
    for text in ("; the pixels agree.", "they disagree.", "or 2 others", "never saw", "no JPEG header"):
        assert any(text in one for one in basis), text


def test_positions_and_scores_are_those_of_python(opened, url):
    tab, rng = opened(url), np.random.default_rng(5)
    script = "async ([name, given]) => (await import('./answer.js'))[name](...given)"
    for height, width in [(48, 48), (48, 50), (49, 49), (480, 640), (3024, 4032), (6000, 9000), (50, 12000)]:
        for size, margin, align in product({48, min(height, 96)}, (0, 0.1), (1, 8)):
            found = tab.evaluate(script, ["positions", [height, width, size, predict.PATCHES, margin, align]])
            assert found == predict.patch_positions(height, width, size, margin, align).tolist()
    logits, features = rng.normal(0, 2, (7, 3)), rng.normal(0, 1, (7, 5))
    for score in predict.SCORES:
        facts = {"temperature": 0.7, "score": score, "threshold": 0.5, "means": rng.normal(0, 1, (3, 5)).tolist()}
        model = models.Model(None, NAMES[:3], 48, "0..255", {"identification": facts})
        for known, size in product(
            ({}, {"sizes": {"2 x 3": NAMES[1:3], "4 x 5": NAMES[:1]}}), ["2 x 3", "4 x 5", "6 x 7"]
        ):
            own = model._replace(info=model.info | known)
            given = [logits.tolist(), features.tolist(), {"class_names": own.class_names, "info": own.info}, size]
            found, expected = tab.evaluate(script, ["answer", given]), predict.combine(logits, features, own, size)
            assert found["score"] == pytest.approx(expected["score"]) and found["unknown"] == expected["unknown"]
            assert (found["votes"], found["size_unseen"]) == (expected["votes"], expected["size_unseen"])
            for name in ("cameras", "pixels"):
                assert [[n, pytest.approx(p)] for n, p in found[name]] == expected[name]
    seen = {"a": [["Zeta_9", 3]], "b": [["Mid_5", 9], ["Zeta_9", 3]]}
    shares = ([0.9, 0.08, 0.02], [0.5, 0.3, 0.2], [0.02, 0.9, 0.08])
    sizes = {"48 x 64": ["Alpha_1", "Mid_5"], predict.size_key(300, 72): NAMES[:5], "8 x 8": ["Mid_5"]}
    for key, size, *told, known, share in product(["", "a", "b", "c"], [(64, 48), (72, 300), (8, 8), (9, 9)],
                                                  *[[False, True]] * 3, shares):  # fmt: skip
        cameras = sorted(zip(["Zeta_9", "Mid_5", "Alpha_1"], share, strict=True), key=lambda pair: -pair[1])
        said = {"pixels": list(map(list, cameras))} | dict(zip(("unknown", "parts_differ"), told, strict=True))
        own, size = model._replace(info={"headers": seen, "sizes": sizes} if known else {}), predict.size_key(*size)
        found = tab.evaluate(script, ["compareHeader", [key, size, said, {"info": own.info}]])
        assert found == predict.compare_header(key, size, said, own)["rests_on"]
    sides = set()
    for height, width in [(48, 48), (72, 300), (300, 72), (240, 320)]:
        corners = predict.patch_positions(height, width, 48)
        logits = rng.normal(0, 2, (len(corners), 3))
        model.info["identification"]["splice_threshold"] = 0.01
        given = [corners.tolist(), logits.tolist(), {"class_names": model.class_names, "info": model.info}]
        found, expected = tab.evaluate(script, ["compareParts", given]), predict.compare_parts(corners, logits, model)
        assert found == expected | {"parts_statistic": pytest.approx(expected["parts_statistic"])}
        sides |= {side for side, _ in expected["parts"]}
    assert sides == {"left", "right", "top", "bottom"}


def test_the_page_says_what_its_model_knows(opened, url, colour_url):
    tab = opened(url)
    expect(tab.locator("#fiction")).to_contain_text("simulated FloreView: photos from cameras that do not exist")
    expect(tab.locator("#description")).to_contain_text("always names one of them")
    about = opened(colour_url).locator("main").inner_text()
    assert predict.describe_model(colours()) in about and "do not exist" not in about


def test_from_any_static_host_labels_are_those_of_the_file(opened, site, tmp_path):
    """No special headers, not at the root: the page works. A sorted list would give other labels."""
    folder = shutil.copytree(site, tmp_path / "some where" / "page")
    facts = json.loads((folder / "model.json").read_text()) | {"class_names": NAMES[::-1]}
    (folder / "model.json").write_text(json.dumps(facts))
    with served(ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=tmp_path))) as host:
        tab = opened(f"{host}/some%20where/page/")
        (card,) = give(tab, {"photo.jpg": PHOTO})
        assert tab.locator("#known li").all_text_contents() == [name.replace("_", " ") for name in NAMES[::-1]]
        agrees(card, PHOTO, textures()._replace(class_names=NAMES[::-1]), tmp_path)


def colour_at(card, x: float, y: float) -> list[int]:
    """A point of the picture, given as shares of its width and height."""
    point = "getContext('2d').getImageData(x * canvas.width, y * canvas.height, 1, 1).data"
    return card.locator("canvas").evaluate(f"(canvas, [x, y]) => [...canvas.{point}].slice(0, 3)", [x, y])


def covered(colour: tuple, by: str) -> list[int]:
    """A colour under the map's colour (as #rrggbb) of a certain answer."""
    return pytest.approx([0.4 * a + 0.6 * b for a, b in zip(colour, bytes.fromhex(by), strict=True)], abs=4)


def test_the_map_shows_a_splice_and_an_unknown_camera_is_an_answer(opened, colour_url):
    tab = opened(colour_url)
    splice, unknown = give(tab, {f"{c}.png": encoded(halves(*c), "PNG") for c in ((RED, BLUE), (PURPLE, PURPLE))})
    assert unknown.locator(".verdict").inner_text() == "None of the known cameras"
    expect(unknown.locator(".remark")).to_contain_text("the most similar of the cameras it knows:")
    expect(unknown.locator(".bars li")).to_have_count(2)
    assert "%" not in unknown.locator(".answer").text_content()
    assert splice.locator(".verdict").inner_text() == "Its parts look like different cameras"
    sides = "left looks most like Warm Red. The right looks most like Cold Blue."
    expect(splice.locator(".remark")).to_contain_text(sides)
    expect(tab.locator("#status")).to_contain_text(": None of the known cameras.")
    best = predict.predict_photo(halves(RED, BLUE), colours()).logits.argmax(axis=1)
    expect(splice.locator(".legend")).to_have_text(
        f"Cold Blue: {(best == 0).sum()} patchesWarm Red: {(best == 1).sum()} patches"
    )
    assert f"{(best == 1).sum()} like Warm Red" in splice.locator("canvas").get_attribute("aria-label")
    for y in (0.05, 0.5, 0.95):
        assert colour_at(splice, 0.1, y) == covered(RED, "edae49")
        assert colour_at(splice, 0.9, y) == covered(BLUE, "1f6f8b")
    splice.locator(".toggle").click()
    assert [colour_at(splice, x, 0.5) for x in (0.1, 0.9)] == [[*RED], [*BLUE]]


def test_a_turned_photo_is_drawn_upright_with_its_map(opened, colour_url):
    red_at = {1: (0.1, 0.5), 3: (0.9, 0.5), 6: (0.5, 0.1), 8: (0.5, 0.9)}
    side = {1: "left", 3: "right", 6: "top", 8: "bottom"}
    cards = give(opened(colour_url), {f"{how}.jpg": turned(halves(RED, BLUE), how) for how in red_at})
    for card, (orientation, (x, y)) in zip(cards, red_at.items(), strict=True):
        size = card.locator("canvas").evaluate("(canvas) => [canvas.width, canvas.height]")
        assert size == ([240, 320] if orientation > 4 else [320, 240])
        expect(card.locator(".remark")).to_contain_text(f"The {side[orientation]} looks most like Warm Red.")
        red, blue = colour_at(card, x, y), colour_at(card, 1 - x, 1 - y)
        assert red == covered(RED, "edae49") and blue == covered(BLUE, "1f6f8b")


SAID = {  # of the bad files of test_photos; of those that are missing here, that they are damaged
    "empty": "is empty", "html": "is neither a JPEG nor a PNG. Choose a", "cmyk": "is a CMYK JPEG", "12 bits": "8 bits",
    "huge": "claims to be 65500 × 65500 pixels", "4:4:1": "factors, 1 × 4", "4 x 2": "factors, 4 × 2, 1 × 1, 1 × 1",
    "heic": "is a HEIC photo, whatever its name", "avif": "is neither", "tiff": "raw photo or a TIFF",
    "16 bits": "16 bits", **dict.fromkeys(["png without its palette", "png with an empty profile"], "has 2 × 2 pixels"),
}  # fmt: skip


def bad_files() -> dict[str, tuple[bytes, str]]:
    """Files that are no usable photo, and what the page says of each."""
    image, damaged = Image.fromarray(texture(200, 300)), "damaged or cut short"
    known = {f"{name}.jpg": (content, SAID.get(name, damaged)) for name, (content, _) in BAD_FILES.items()}
    png = encoded(image, "PNG")
    return known | {
        "flipped.png": (png[:200] + bytes([png[200] ^ 1]) + png[201:], damaged),
        "head.png": (png[:20], damaged),
        "wide.jpg": (with_frame(5, 2 * (16_000).to_bytes(2)), r"16000 × 16000 pixels, more than .* \(178 megapixels\)"),
        "IMG_1.HEIC": (b"\0\0\0\x18ftypheic" + bytes(40), "is a HEIC photo.*Most Compatible"),
        "modern.webp": (encoded(image, "WEBP"), "is neither"),
        "thumb.jpg": (encoded(image.resize((47, 200))), "has 47 × 200 pixels.*original photo"),
        "<img src=x>.jpg": (b"<script>alert(1)</script>", "is neither"),
    }


def test_bad_files_get_a_reason_and_the_page_goes_on(opened, url, tmp_path):
    bad, good = bad_files(), {"good.png": all_kinds()["plain.png"], "good.jpg": PHOTO}
    cards = give(opened(url), {name: content for name, (content, _) in bad.items()} | good)
    for card, (name, (_, reason)) in zip(cards[:-2], bad.items(), strict=True):
        text = card.locator(".problem").inner_text()
        assert text.startswith(f"{name} ") and re.search(reason, text), text
    for card, content in zip(cards[-2:], good.values(), strict=True):
        agrees(card, content, textures(), tmp_path)


@pytest.mark.parametrize(
    "file, start, reason",
    [
        ("worker", "delete self.WebAssembly;", "could not be loaded: this browser has no WebAssembly"),
        ("page", "Worker = function () { throw new Error('no modules') };", "cannot run the page: no modules"),
        ("worker", "not a script;", "worker of this page could not start"),
    ],
)
def test_where_the_network_cannot_start_every_photo_gets_the_reason(site, tmp_path, browser, file, start, reason):
    folder = shutil.copytree(site, tmp_path / "altered")
    (folder / f"{file}.js").write_text(start + (folder / f"{file}.js").read_text())
    with served(page.server(folder)) as address, browser.new_context() as context:
        (tab := context.new_page()).goto(address)
        tab.set_input_files("#files", [{"name": "early.jpg", "mimeType": "", "buffer": PHOTO}])
        expect(tab.locator("#status")).to_contain_text(reason)
        for text in tab.locator(".card .problem").all_inner_texts():
            assert text.startswith("early.jpg was not analysed. ") and reason in text
        tab.set_input_files("#files", [{"name": "late.jpg", "mimeType": "", "buffer": PHOTO}])
        expect(tab.locator(".stage:visible")).to_have_count(0)  # nothing waits for what will not come
        expect(tab.locator("#status")).to_contain_text(reason)


@pytest.mark.slow
def test_a_photo_of_54_megapixels_leaves_the_page_alive(opened, url, tmp_path):
    content = simplejpeg.encode_jpeg(np.tile(texture(1000, 1000), (6, 9, 1)), 90)
    (tmp_path / "large.jpg").write_bytes(content)
    tab = opened(url)
    tab.set_input_files("#files", tmp_path / "large.jpg")
    card = tab.locator(".card")
    expect(card.locator(".stage")).to_have_text(re.compile("Decoding|Patch"))
    tab.locator("#about summary").last.click(timeout=2_000)  # while the photo is analysed
    expect(card.locator(".answer")).to_be_hidden(timeout=1)
    expect(card.locator(".facts")).to_contain_text("9000 × 6000 pixels")
    agrees(card, content, textures(), tmp_path)
    assert card.locator("canvas").evaluate("(canvas) => canvas.width") <= 1200  # a small copy is drawn


def test_the_answer_for_a_later_photo_comes_into_view(opened, url):
    tab = opened(url, viewport={"width": 400, "height": 700})
    give(tab, {f"{i}.jpg": PHOTO for i in range(3)})
    tab.evaluate("scrollTo(0, 0)")
    (card,) = give(tab, {"later.jpg": PHOTO})
    expect(card.locator(".verdict")).to_be_in_viewport()


def test_photos_can_be_dropped_and_pasted(opened, url):
    tab = opened(url)
    script = """([kind, bytes]) => {
      const data = new DataTransfer();
      if (bytes.length) data.items.add(new File([new Uint8Array(bytes)], `${kind}.jpg`));
      const paste = () => new ClipboardEvent("paste", { clipboardData: data });
      dispatchEvent(kind === "paste" ? paste() : new DragEvent("drop", { cancelable: true, dataTransfer: data }));
    }"""
    for kind, text in {"paste": "no photo in the clipboard", "drop": "not a file"}.items():
        tab.evaluate(script, [kind, []])
        expect(tab.locator("#status")).to_contain_text(text)
        tab.evaluate(script, [kind, list(PHOTO)])
    expect(tab.locator(".card .answer:visible")).to_have_count(2)
    expect(tab.locator(".card .name")).to_have_text(["paste.jpg", "drop.jpg"])


def test_a_dropped_folder_gets_a_reason_and_photos_beside_it_are_read(opened, url, tmp_path):
    (folder := tmp_path / "holiday").mkdir()
    (tmp_path / "one.jpg").write_bytes(PHOTO)
    tab = opened(url)
    session = tab.context.new_cdp_session(tab)
    data = {"items": [], "files": [str(folder), str(tmp_path / "one.jpg")], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        session.send("Input.dispatchDragEvent", {"type": kind, "x": 200, "y": 200, "data": data})
    expect(tab.locator(".card .answer:visible")).to_have_count(1)
    expect(tab.locator(".problem:visible")).to_contain_text("holiday could not be read")


def test_everything_works_with_the_keyboard_alone_and_is_announced(opened, url, tmp_path):
    (tmp_path / "photo.jpg").write_bytes(PHOTO)
    tab = opened(url)
    tab.on("filechooser", lambda chooser: None)  # intercept it from now on, or the first one may come too early
    (press := tab.keyboard.press)("Tab")
    expect(tab.locator("#choose")).to_be_focused()
    with tab.expect_file_chooser() as chooser:
        press("Enter")
    chooser.value.set_files(tmp_path / "photo.jpg")
    expect(tab.locator(".card .answer")).to_be_visible()
    expect(tab.get_by_role("status")).to_contain_text("photo.jpg:")  # what a screen reader reads out
    image = tab.get_by_role("article", name="photo.jpg").get_by_role("img")
    expect(image).to_have_accessible_name(re.compile("Patches: "))
    press("Tab")
    toggle = tab.get_by_role("button", name="Map of photo.jpg")
    expect(toggle).to_be_focused()
    assert toggle.evaluate("(button) => getComputedStyle(button).outlineStyle") == "solid"
    press("Space")
    expect(toggle).to_have_attribute("aria-pressed", "false")
    press("Tab")
    press("Enter")
    expect(tab.locator(".rest .bars")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_nothing_is_wider_than_the_screen(opened, url, scheme):
    tab = opened(url, viewport={"width": 320, "height": 640}, color_scheme=scheme)
    give(tab, {"A_very_long_name_" * 8 + ".jpg": PHOTO, "x" * 100: b"text"})
    assert tab.evaluate("document.documentElement.scrollWidth") <= 320
    paper = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", paper))) < 200) == (scheme == "dark")
