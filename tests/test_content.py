"""The three tests that content does not pass: groups, bodies, flat fields and the recipe that others choose."""

import numpy as np
import pandas as pd
import pytest
from helpers import MODELS

from camid_utils import evaluation, models, planning
from camid_utils.analyses import content
from camid_utils.evaluation import LOG_PROB
from camid_utils.identify import predict


def predictions(rows: list[tuple]) -> pd.DataFrame:
    """Rows of (seed, collection, true, probabilities of MODELS)."""
    logs = pd.DataFrame(np.log([row[3] for row in rows]), columns=[LOG_PROB + name for name in MODELS])
    return pd.DataFrame([row[:3] for row in rows], columns=["seed", "collection", "true"]).join(logs)


def test_answers_are_chosen_among_the_models_that_photographed_the_same_things():
    """Bolt_C would win in place 1, where only A and B took photos; place 2 has one model, and place 3 one per seed."""
    table = predictions([
        (0, "1", "Acme_A", [0.2, 0.1, 0.7]), (0, "1", "Acme_B", [0.3, 0.1, 0.6]), (0, "2", "Acme_A", [0.8, 0.1, 0.1]),
        (0, "3", "Acme_A", [0.8, 0.1, 0.1]), (1, "3", "Acme_B", [0.8, 0.1, 0.1]),
    ])  # fmt: skip
    found = content.matched(table)
    assert found["collection"].tolist() == ["1", "1"] and set(found["group"]) == {"Acme_A, Acme_B"}
    shares = np.exp(evaluation.log_probabilities(found))
    np.testing.assert_allclose(shares, [[2 / 3, 1 / 3, 0], [3 / 4, 1 / 4, 0]])
    voted = evaluation.vote(pd.concat([found] * 2, ignore_index=True).assign(photo=["a", "b"] * 2, y=0, x=0))
    np.testing.assert_allclose(np.exp(evaluation.log_probabilities(voted)), [[4 / 5, 1 / 5, 0], [9 / 10, 1 / 10, 0]])


def public(devices: dict[str, list[str]], photos: int = 8) -> pd.DataFrame:
    """A row per photo: device -> its collections of that many photos, in four scenes."""
    rows = [
        (device.split("/")[0], device, f"{place}/{i // 2}", place, f"{device} {place} {i}.jpg")
        for device, places in devices.items()
        for place in places
        for i in range(photos)
    ]
    return pd.DataFrame(rows, columns=["camera_model", "device", "scene", "collection", "photo"])


def test_a_new_collection_by_a_known_body_is_told_from_one_by_another():
    table = public({"A/0": ["museum", "garden"], "B/0": ["lake"], "B/1": ["zoo"], "C/0": ["attic"]})
    tests = planning.shared_training(table, "collection", 0, 2)
    assert list(tests) == ["photo", "scene", "collection"]
    for plan, photo, scene in zip(tests["collection"], tests["photo"], tests["scene"], strict=True):
        assert (plan.rows("train") == scene.rows("train")).all() and (plan.rows("val") == photo.rows("val")).all()
        tested = table.iloc[plan.rows("test")].assign(seed=plan.seed)
        assert set(tested["camera_model"]) == {"A", "B"} and set(plan.labels) == {-1, 0, 1, 2}
        trained = table.iloc[plan.rows("train")]
        assert not set(tested["collection"]) & set(trained["collection"])
        body = content.bodies(tested, table, tests["collection"])
        assert (body.to_numpy() == np.where(tested["camera_model"] == "A", content.SAME, content.ANOTHER)).all()
        aside = table.iloc[scene.rows("test")]
        assert set(aside["collection"]) == set(trained["collection"])
        assert not set(aside["scene"]) & {*trained["scene"], *table["scene"].iloc[plan.rows("val")]}
    once = pd.concat(table.iloc[plan.rows("test")] for plan in tests["collection"])
    assert sorted(once["collection"]) == sorted(table["collection"][table["camera_model"] != "C"])


def test_a_new_collection_may_show_a_room_in_which_training_saw_the_model():
    """livia and vespasian are of one gallery; seed 0 trained on A in livia, seed 1 on A and B elsewhere."""
    places = [f"BritishMuseumDH/{name}" for name in ("livia", "vespasian", "ledaAndTheSwan", "vespasian")]
    table = pd.DataFrame({"camera_model": [*"AAAB"], "collection": places})
    parts = {0: ["train", "test", "test", "test"], 1: ["test", "test", "train", "train"]}
    plans = [planning.Plan("collection", "camera_model", seed, np.array(part), None, [*"AB"], "")
             for seed, part in parts.items()]  # fmt: skip
    rows = pd.concat([table.iloc[plan.rows("test")].assign(seed=plan.seed) for plan in plans], ignore_index=True)
    seen = content.room_seen(rows.assign(true=rows["camera_model"]), table, plans)
    assert seen.tolist() == [True, False, False, False, False]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_flat_fields_test_another_device_or_the_other_half_in_time(seed):
    table = public({"A/0": ["lab"], "A/1": ["lab"], "B/0": ["wall"]}, photos=12)
    table["photo"] = table["device"] + [f" {i % 12:02d}" for i in range(len(table))]
    table = table.loc[table.index.repeat(3)].sample(frac=1, random_state=0, ignore_index=True)
    plan = content.no_content(table, seed)
    parts = table.assign(part=plan.part).drop_duplicates("photo").sort_values("photo").groupby("device")["part"]
    parts = {device: "".join(part[1] for part in own) for device, own in parts}
    late, early = "r" * 4 + "a" * 2 + "e" * 6, "e" * 6 + "a" * 2 + "r" * 4
    other = {"A/0": "e" * 12, "A/1": "a" * 4 + "r" * 8}
    first = {"A/0": "r" * 8 + "a" * 4, "A/1": "e" * 12}
    assert parts == ((other | {"B/0": late}) if seed % 2 == 0 else (first | {"B/0": early}))
    assert (np.array(plan.class_names)[plan.labels] == table["camera_model"]).all()


def test_the_recipe_of_a_class_is_chosen_by_the_others():
    """One recipe is best for all but C, where it fails; on the whole the other would look best by its luck with C."""

    def answers(right: tuple[int, ...]) -> pd.DataFrame:
        """So many of ten photos of each model are classified correctly, the others as the next model."""
        rows = [(0, "1", name, np.roll([0.8, 0.1, 0.1], k + (i >= count)))
                for k, (name, count) in enumerate(zip(MODELS, right, strict=True)) for i in range(10)]  # fmt: skip
        own = predictions(rows).assign(dataset="Public", scene="1/1", y=0, x=0)
        return own.assign(photo=[f"{i}.jpg" for i in range(30)], device=own["true"] + "_0", group=own["true"])

    recipes = {"steady": answers((6, 6, 1)), "lucky": answers((4, 5, 10))}
    choice, chosen = content.chosen_elsewhere(recipes)
    assert choice["steady"].tolist() == [0.6, 0.6, 0.1] and choice["steady"].mean() < choice["lucky"].mean()
    assert choice["recipe"].to_dict() == {"Acme_A": "lucky", "Acme_B": "lucky", "Bolt_C": "steady"}
    assert choice["value"].tolist() == content.by_class({"chosen": chosen})["chosen"].tolist() == [0.4, 0.5, 0.1]
    found = content.scores(recipes | {"chosen": chosen}, "collection", pooled="all")
    found = found[found["metric"] == "accuracy"].set_index(["experiment", "group"])["value"]
    assert found["steady"].to_dict() == pytest.approx({"Acme_A": 0.6, "Acme_B": 0.6, "Bolt_C": 0.1, "all": 13 / 30})
    assert found["chosen", "all"] == pytest.approx(10 / 30)


def test_the_brand_is_that_of_the_model_named():
    """Two models of A with 0.3 each do not beat one of B with 0.4; two patches of a photo are one vote."""
    rows = pd.DataFrame({"photo": ["x", "x", "y"], "seed": 0, "true": ["A_2", "A_2", "B_1"], "brand": ["A", "A", "B"]})
    logs = np.log([[0.3, 0.3, 0.4], [0.3, 0.3, 0.4], [0.1, 0.1, 0.8]])
    rows[[f"log_prob:{name}" for name in ("A_1", "A_2", "B_1")]] = logs
    found = content.brands(rows)
    assert found["true"].tolist() == ["A", "B"] and list(found.filter(like="log_prob:")) == ["log_prob:A", "log_prob:B"]
    assert evaluation.predicted(found).tolist() == ["B", "B"]
    assert evaluation.vote(found)["patches"].tolist() == [1, 1]  # can be voted again


def test_answers_among_the_models_of_a_size_are_those_of_the_tool():
    """Seed 0 trained on a, b, c and d, seed 1 on a, b, d and y; x is as large as a, b and c, and lies on its side."""
    photos = pd.DataFrame({"photo": [*"abcdxy"], "height": [3, 3, 3, 5, 4, 6], "width": [4, 4, 4, 7, 3, 8]})
    photos["camera_model"] = ["Acme_A", "Acme_A", "Acme_B", "Bolt_C", "Acme_A", "Acme_B"]
    parts = np.isin([*"abcdxy"], [*"abcd"]), np.isin([*"abcdxy"], [*"abdy"])
    plans = [planning.Plan("collection", "camera_model", seed, np.where(part, "train", "test"), None, MODELS, "")
             for seed, part in enumerate(parts)]  # fmt: skip
    shares = [[0.2, 0.3, 0.5], [0.1, 0.6, 0.3]]
    rows = predictions([(seed, "1", "Acme_A", share) for seed in (0, 1) for share in shares]).assign(photo=[*"xy"] * 2)
    sizes = (
        {"3 x 4": ["Acme_A", "Acme_B"], "5 x 7": ["Bolt_C"]},
        {"3 x 4": ["Acme_A"], "5 x 7": ["Bolt_C"], "6 x 8": ["Acme_B"]},
    )
    found, alone = (content.of_size(rows, photos, photos, plans, alone) for alone in (False, True))
    for own in found.itertuples():
        model = models.Model(None, MODELS, 1, "0..255", {"sizes": sizes[own.seed]})
        logits, size = np.log([shares["xy".index(own.photo)]]), {"x": "3 x 4", "y": "6 x 8"}[own.photo]
        told = dict(predict.combine(logits, np.zeros((1, 1)), model, size)["cameras"])
        assert dict(zip(MODELS, np.exp(own[-3:]), strict=True)) == pytest.approx(told)
    shares = np.exp(evaluation.log_probabilities(alone))
    np.testing.assert_allclose(shares, [[2 / 3, 1 / 3, 0], [1 / 2, 1 / 4, 1 / 4], [1, 0, 0], [0, 1, 0]])
