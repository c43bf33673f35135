"""The page of confusion matrices: its counts, orders, links and thumbnails, and the page itself in a real browser."""

import base64
import gzip
import io
import json
import re
import shutil
from itertools import product

import numpy as np
import pandas as pd
import pytest
from helpers import CHROMIUM
from PIL import Image
from playwright.sync_api import expect
from sklearn.metrics import confusion_matrix

from camid_utils import evaluation
from camid_utils.evaluation import LOG_PROB, class_names, log_probabilities, save_predictions
from camid_utils.report import matrices

needs_chromium = pytest.mark.skipif(not CHROMIUM, reason="needs chromium")
SIMULATED = ["Alfa_1", "Alfa_2", "Beta_1", "Gamma_1"]
REAL = [f"Brand{i % 9}_Model{i:02d}" for i in range(44)]
HEADER, BASE, OTHER, RELEASED = "forchheim-all", "design-base", "design-photo", "efficientnet-released"


def predictions(classes: list[str], dataset: str, seeds: int, patches: int, key: int) -> pd.DataFrame:
    """Random predictions of 6 photos a class by two devices each; the first class is often taken for the last."""
    rng = np.random.default_rng(key)
    rows = [
        {"dataset": dataset, "brand": name.split("_")[0], "camera_model": name, "device": f"{name}_{i % 2}",
         "photo": f"{name}_{i % 2}/{name}_{i}.jpg", "y": y, "x": 0, "true": name, "part": part, "seed": seed}
        for seed, part, name, i, y in product(range(seeds), ("val", "test"), classes, range(6), range(patches))
    ]  # fmt: skip
    table = pd.DataFrame(rows)
    logits = rng.normal(0, 1, (len(table), len(classes)))
    logits[np.arange(len(table)), table["true"].map(classes.index)] += 1.5
    logits[table["true"] == classes[0], -1] += 1.8
    logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return table.join(pd.DataFrame(logs, columns=classes).add_prefix(LOG_PROB))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run's folder: one network tested twice, another with 44 real classes, a header look-up, simulated photos."""
    folder = tmp_path_factory.mktemp("run")
    base = predictions(SIMULATED, "simulated FloreView", 2, 3, 0)
    other = base.copy()
    tested = other["part"] == "test"
    other.loc[tested, other.filter(like=LOG_PROB).columns] = np.roll(log_probabilities(other[tested]), 1, axis=1)
    header = base[base["y"] == 0].copy()
    header[[LOG_PROB + name for name in SIMULATED]] = np.log([0.97, 0.01, 0.01, 0.01])
    tables = {BASE: base, OTHER: other, RELEASED: predictions(REAL, "public photographs", 1, 1, 1), HEADER: header}
    for name, table in tables.items():
        save_predictions(table, folder / "predictions" / f"{name}.parquet")
    metrics = [[BASE, "scene+device", "test", "photo", "accuracy", 0.5, 0.4, 0.6, True], [BASE, "scene+device", "test",
               "patch", "accuracy", 0.45, 0.4, 0.5, True], [HEADER, "scene+device", "test", "photo", "accuracy", 0.25,
               0.2, 0.3, None], [OTHER, "photo", "test", "photo", "accuracy", 0.1, 0, 0.2, False]]  # fmt: skip
    columns = ["experiment", "protocol", "part", "level", "metric", "value", "low", "high", "plateau"]
    (folder / "metrics").mkdir()
    pd.DataFrame(metrics, columns=columns).to_csv(folder / "metrics" / "04_metrics.csv", index=False)
    record = {"profile": "tiny", "parameters": {"data_dir": str(folder / "data")}, "notebooks": {"04_efficientnet": {}}}
    (folder / "run.json").write_text(json.dumps(record))
    for photo in base["photo"].unique()[:-6]:  # those of the last class are missing
        path = folder / "data" / "simulated-floreview" / photo
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.effect_noise((320, 240), 60).convert("RGB").save(path)
    photo = {"file": f"{REAL[0]}/{REAL[0]}_0.jpg", "collection": "a/b", "commit": "c0ffee", "path": "x/an image.JPG"}
    labels = matrices.listed()
    labels.loc[HEADER, "label"] = "header look-up"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matrices.published, "photographs", lambda: pd.DataFrame([photo]))
        patch.setattr(matrices, "listed", lambda: labels)
        return matrices.build(folder), tables


@pytest.fixture(scope="module")
def facts(run) -> dict:
    packed = re.search(r'<script id="facts" type="text/plain">(.*?)</script>', run[0].read_text())[1]
    facts = json.loads(gzip.decompress(base64.b64decode(packed)))
    for i, one in enumerate(facts["experiments"]):
        one |= {name: columns[i] for name, columns in facts["units"].items()}
        for name in ("top", "share", "votes"):
            one[name] = np.reshape([ord(letter) - matrices.ZERO for letter in one[name]], (len(one["photo"]), -1))
    return facts | {"experiments": {one["id"]: one for one in facts["experiments"]}}


def pictures(page) -> dict[str, str]:
    return json.loads(re.search(r'<script id="pictures" type="application/json">(.*?)</script>', page.read_text())[1])


def expected(table: pd.DataFrame, level: str, classes: list[str], by: str = "model") -> np.ndarray:
    """The confusion matrix by scikit-learn."""
    test = table[table["part"] == "test"]
    test = evaluation.vote(test) if level == "photo" else test
    named = np.array(class_names(test))[log_probabilities(test).argmax(1)]
    if by == "brand":
        brand = {name: name.split("_")[0] for name in classes}
        return confusion_matrix(test["true"].map(brand), pd.Series(named).map(brand), labels=sorted({*brand.values()}))
    return confusion_matrix(test["true"], named, labels=classes)


@pytest.mark.parametrize("name", [BASE, OTHER, RELEASED])
def test_counts_are_those_of_scikit_learn(run, facts, name):
    one = facts["experiments"][name]
    names = [facts["photos"]["name"][i] for i in np.cumsum(one["photo"])]
    assert [name.split("/")[0].rsplit("_", 1)[0] for name in names] == [one["names"][i] for i in one["true"]]
    photos = np.zeros((len(one["names"]),) * 2, int)
    np.add.at(photos, (one["true"], one["top"][:, 0]), 1)
    assert (photos == expected(run[1][name], "photo", one["names"])).all()
    patches = np.zeros_like(photos)
    if one["votes"].size:
        np.add.at(patches, one["true"], one["votes"])
    assert ((patches if one["votes"].size else photos) == expected(run[1][name], "patch", one["names"])).all()
    assert bool(one["votes"].size) == (name != RELEASED)  # whose photos have one patch each
    votes = evaluation.vote(run[1][name].query("part == 'test'")).sort_values(["photo", "seed"])
    most = np.rint(100 * np.sort(np.exp(log_probabilities(votes)), axis=1)[:, :-4:-1]).astype(int)
    assert (one["share"] == most).all()


def test_tests_of_one_protocol_share_the_headers_answers(facts):
    base, other, released = (facts["experiments"][name] for name in (BASE, OTHER, RELEASED))
    assert (base["plateau"], other["plateau"]) == (1, 0)
    assert base["header"] == [0] * 48 and other["header"] == released["header"] == []


def test_confused_classes_become_neighbours():
    rng = np.random.default_rng(2)
    shuffled = rng.permutation(20)
    counts = np.zeros((20, 20), int) + 50 * np.eye(20, dtype=int)
    for a, b in shuffled.reshape(10, 2):
        counts[a, b] = 20
    places = np.argsort(matrices.similar(counts))
    assert sorted(places) == list(range(20))
    assert all(abs(places[a] - places[b]) == 1 for a, b in shuffled.reshape(10, 2))
    assert matrices.similar(np.eye(5, dtype=int)) == [0, 1, 2, 3, 4] and matrices.similar(np.ones((2, 2))) == [0, 1]


def test_only_simulated_photos_have_thumbnails_and_only_public_ones_links(run, facts, tmp_path):
    shown, photos = pictures(run[0]), facts["photos"]
    assert shown and not any(photos["name"][int(place)].startswith("Brand") for place in shown)
    image = Image.open(io.BytesIO(base64.b64decode(next(iter(shown.values())).removeprefix("data:image/webp;base64,"))))
    assert image.size == (96, 72) and image.format == "WEBP"
    linked = {name: link for name, link in zip(photos["name"], photos["link"], strict=True) if link}
    assert linked == {f"{REAL[0]}_0/{REAL[0]}_0.jpg": "https://github.com/a/b/blob/c0ffee/x/an%20image.JPG"}
    rows = pd.DataFrame({"dataset": ["simulated FloreView"] * 24, "photo": photos["name"][-24:]})
    one = {"photo": [0] + [1] * 23, "true": [0] * 24, "top": [[1]] * 24}
    data = run[0].parents[1] / "data"
    assert len(matrices.thumbnails([one], rows, data, 10**6)) == matrices.PER_CELL
    few = matrices.thumbnails([one], rows, data, 5000)
    assert 0 < len(few) < matrices.PER_CELL and len(json.dumps(few)) <= 5000
    assert matrices.thumbnails([one], rows.assign(dataset="FloreView"), data, 10**6) == {}
    assert matrices.thumbnails([one], rows, tmp_path, 10**6) == {}


def test_a_run_without_galleries_has_no_thumbnails(run, tmp_path):
    folder = shutil.copytree(run[0].parents[1], tmp_path / "run")
    record = json.loads((folder / "run.json").read_text())
    for galleries in (True, False):
        record["parameters"] |= {"data_dir": str(folder / "data"), "galleries": galleries}
        (folder / "run.json").write_text(json.dumps(record))
        assert bool(pictures(matrices.build(folder))) == galleries


def test_the_page_loads_nothing(run):
    page = run[0].read_text()
    assert "{{" not in page and "http:" not in page and "https:" not in page  # links are among the packed facts
    assert not re.search(r"<(script|img)[^>]* src=|<link[^>]*href=\"(?!data:)|@import|url\(|fetch\(|import\(", page)
    assert "default-src 'none'" in page


def test_without_predictions_there_is_no_page(tmp_path):
    assert matrices.build(tmp_path) is None and not list(tmp_path.iterdir())


@pytest.fixture
def opened(opened, run):
    """Opens the page at a hash."""
    return lambda fragment, **options: opened(f"{run[0].as_uri()}#{fragment}", **options)


def cells(tab) -> tuple[list[str], list[str], np.ndarray]:
    """Names of rows and columns, and the numbers of the matrix that is shown."""
    rows = [text.rsplit(" (", 1)[0] for text in tab.locator("tbody th").all_text_contents()]
    columns = tab.locator("thead th span").all_text_contents()
    numbers = [int(text or 0) for text in tab.locator("td").all_text_contents()]
    return rows, columns, np.reshape(numbers, (len(rows), len(columns)))


@needs_chromium
def test_choices_show_the_matrices_of_scikit_learn(opened, run):
    tab = opened("values=numbers")
    tab.get_by_role("combobox", name="Network").select_option(label="base")
    tab.get_by_role("combobox", name="Split").select_option(label="photo: new photos")
    expect(tab.locator("#caption")).to_contain_text("No verdict rests", ignore_case=True)
    tab.get_by_role("combobox", name="Split").select_option(label="scene+device: native crops, pretrained")
    for level in ("patch", "photo"):
        tab.get_by_role("group", name="Level").get_by_label(level).check()
        for by, names in (("model", SIMULATED), ("brand", ["Alfa", "Beta", "Gamma"])):
            tab.get_by_role("group", name="Rows").get_by_label(by).check()
            rows, columns, numbers = cells(tab)
            assert rows == columns == [name.replace("_", " ") for name in names]
            assert (numbers == expected(run[1][BASE], level, SIMULATED, by)).all()
    tab.get_by_role("radio", name="device").check()
    rows, columns, numbers = cells(tab)
    test = evaluation.vote(run[1][BASE].query("part == 'test'"))
    by_device = evaluation.confusion(test, by="device")
    assert rows == [name.replace("_", " ") for name in by_device.index] and (numbers == by_device).all(axis=None)
    assert "experiment=design-base&level=photo&rows=device&values=numbers" in tab.url
    caption = tab.locator("#caption").inner_text().replace("\u00a0", " ")
    for text in ("SIMULATED", "simulated FloreView", "Split: scene+device", "24 photos by 8 devices", "2 seeds pooled",
                 "50.0 % (95 % interval 40.0 to 60.0)"):  # fmt: skip
        assert text in caption


@needs_chromium
def test_keyboard_moves_opens_a_cell_and_closes_it(opened, run):
    tab = opened(f"experiment={BASE}&level=photo&rows=model&values=numbers")
    numbers = expected(run[1][BASE], "photo", SIMULATED)
    tab.locator("td[tabindex='0']").focus()
    tab.keyboard.press("End")
    n = int(numbers[0, -1])
    assert n > 1  # else there is little to see
    sentence = f"true Alfa 1, predicted Gamma 1: {n} of 12 answers, {100 * n / 12:.0f} %"
    expect(tab.locator("#summary")).to_have_text(sentence)
    assert tab.locator("#summary").get_attribute("aria-live") == "polite"
    tab.keyboard.press("Enter")
    expect(tab.get_by_role("dialog")).to_contain_text(sentence)
    items = tab.locator("#list li")
    expect(items).to_have_count(n)
    first = items.first
    assert re.search(r"Alfa_1_\d\.jpg\s+device Alfa 1 [01], seed [01], [23] of 3 patches", first.inner_text())
    assert first.locator(".bars span").first.inner_text() == "Gamma 1"
    expect(first).to_contain_text("header look-up: Alfa 1")
    expect(first.get_by_alt_text(re.compile("Simulated photo Alfa_1"))).to_be_visible()
    assert first.locator("img").evaluate("image => image.naturalWidth") == 96
    tab.keyboard.press("Escape")
    expect(tab.get_by_role("dialog")).to_have_count(0)
    assert tab.evaluate("document.activeElement.dataset.at") == "0 3"
    for key, place in {"ArrowDown": "1 3", "ArrowLeft": "1 2", "Home": "1 0", "ArrowUp": "0 0"}.items():
        tab.keyboard.press(key)
        assert tab.evaluate("document.activeElement.dataset.at") == place


@needs_chromium
def test_networks_have_their_tests_and_those_of_two_data_sets_two_names(opened, run):
    tab = opened(f"experiment={OTHER}")
    tests = ["scene+device: native crops, pretrained", "photo: new photos"]
    assert tab.locator("#split option").all_text_contents() == tests
    script = (run[0].parents[1] / "html" / run[0].name).read_text()
    ending = re.compile(re.search(r"const TEST = /(.*)/;", script)[1])
    names = {(row.notebook, ending.sub("", row.label)) for row in matrices.listed().itertuples()}
    assert ("09", "all models, colour residuals") in names and not any(", new " in name for _, name in names)


@needs_chromium
def test_a_link_to_a_test_that_this_run_lacks_leads_to_the_strictest_of_its_network(opened):
    assert opened("experiment=design-scene+device").locator("#title").inner_text() == "base, new photos"
    tab = opened("experiment=unheard-of")
    assert tab.locator("#title").inner_text() == "EfficientNet as released"
    expect(tab.locator("#caption")).to_contain_text("no test named unheard-of")
    longer = opened(f"experiment={BASE}-once-more")  # begins with a whole name
    assert longer.locator("#title").inner_text() == "base: native crops, pretrained"
    tab.get_by_role("combobox", name="Network").select_option(label="base")
    expect(tab.locator("#caption")).not_to_contain_text("no test named")


@needs_chromium
def test_where_a_photo_is_one_patch_there_is_no_other_level(opened):
    tab = opened(f"experiment={RELEASED}&level=patch")
    expect(tab.get_by_role("radio", name="patch")).to_be_disabled()
    expect(tab.get_by_role("radio", name="photo")).to_be_checked()
    expect(tab.locator("#caption")).to_contain_text("Level: photo.")
    tab.get_by_role("combobox", name="Network").select_option(label="base")
    expect(tab.get_by_role("radio", name="patch")).to_be_checked()


@needs_chromium
def test_another_window_size_keeps_the_focused_cell_also_below_its_photos(opened):
    tab = opened(f"experiment={BASE}&level=photo")
    tab.locator("td.right").last.focus()
    said = tab.locator("#summary").inner_text()
    assert said.startswith("true Gamma 1")
    tab.set_viewport_size({"width": 600, "height": 500})
    expect(tab.locator("td.right").last).to_be_focused()
    expect(tab.locator("#summary")).to_have_text(said)
    tab.keyboard.press("Enter")
    tab.set_viewport_size({"width": 900, "height": 500})
    tab.keyboard.press("Escape")
    expect(tab.locator("td.right").last).to_be_focused()


@needs_chromium
def test_in_a_narrow_window_long_numbers_are_whole_and_the_page_scrolls_over_the_matrix(opened):
    tab = opened("experiment=design-base&values=numbers", viewport={"width": 390, "height": 500})
    tab.evaluate("document.querySelector('td').textContent = '3835'; dispatchEvent(new Event('resize'))")
    assert tab.locator("td").first.evaluate("cell => cell.scrollWidth <= cell.clientWidth")
    tab.locator("td").first.hover()
    before = tab.evaluate("scrollY")
    tab.mouse.wheel(0, 100)
    tab.wait_for_timeout(500)
    assert tab.evaluate("scrollY") > before


@needs_chromium
def test_a_printed_matrix_is_whole(opened):
    tab = opened(f"experiment={RELEASED}", color_scheme="dark", viewport={"width": 718, "height": 1000})
    tab.emulate_media(media="print", color_scheme="light")
    expect(tab.locator("#choices")).to_be_hidden()
    width, height = tab.locator("#scroll").evaluate("(box) => [box.scrollWidth, box.scrollHeight - box.clientHeight]")
    assert width <= 718 and height == 0
    cell = tab.locator("td:not(:empty)").first
    assert cell.evaluate("(cell) => getComputedStyle(cell).printColorAdjust") == "exact"


@needs_chromium
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_44_classes_are_readable_and_real_photos_only_linked(opened, scheme):
    size = {"width": 1000, "height": 700}
    tab = opened(f"experiment={RELEASED}&order=similarity", color_scheme=scheme, viewport=size)
    rows, columns, _ = cells(tab)
    assert rows == columns and sorted(rows) == sorted(name.replace("_", " ") for name in REAL) and rows != sorted(rows)
    expect(tab.locator("#caption")).to_contain_text("REAL photographs (public photographs)")
    contrasts = tab.locator("td").evaluate_all("""cells => {
        const light = (c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4);
        const luminance = (text) => {
            const [r, g, b] = text.match(/[\\d.]+/g).map(Number).map(light);
            return 0.2126 * r + 0.7152 * g + 0.0722 * b;
        };
        return cells.filter((cell) => cell.textContent).map((cell) => {
            const { color, backgroundColor } = getComputedStyle(cell);
            const [low, high] = [luminance(color), luminance(backgroundColor)].sort((a, b) => a - b);
            return (high + 0.05) / (low + 0.05);
        });
    }""")
    assert len(contrasts) > 88 and min(contrasts) >= 4.5
    tab.locator("td").last.focus()
    tab.keyboard.press("ArrowUp")  # scrolls there; names of the row and the column stay in view, and the cell beside
    places = "#scroll", "th.here >> nth=1", "th.here >> nth=0", "td:focus"
    frame, row, column, cell = (tab.locator(place).bounding_box() for place in places)
    assert frame["x"] <= row["x"] < cell["x"] and row["y"] == pytest.approx(cell["y"], abs=2)
    assert frame["y"] <= column["y"] < cell["y"] and cell["y"] + cell["height"] <= frame["y"] + frame["height"]
    links = set()
    for cell in tab.locator("tbody tr").nth(rows.index(REAL[0].replace("_", " "))).locator("td:not(:empty)").all():
        cell.click()
        expect(tab.get_by_role("dialog")).to_contain_text("Real photographs are not shown")
        assert tab.locator("dialog img").count() == 0
        links |= {link.get_attribute("href") for link in tab.locator("dialog a").all()}
        tab.keyboard.press("Escape")
    assert links == {"https://github.com/a/b/blob/c0ffee/x/an%20image.JPG"}
