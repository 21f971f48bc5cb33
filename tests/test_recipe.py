"Each recipe can be trained: its model exists, its options are the system's, its episodes can be drawn"
import json
from dataclasses import asdict

import pytest

import fss_nb as fss
from fss_nb.data.augment import augment
from fss_nb.papers.system import make_cfg
from fss_nb.papers.zoo import _SYSTEMS
from fss_nb.train.recipe import RECIPES, Recipe, find_recipe, recipe, recipes


def test_every_system_on_every_benchmark():
    for system in fss.list_models():
        for benchmark in ('pascal5i', 'coco20i', 'fss1000', 'toy'):
            for shots in (1, 5):
                r = find_recipe(system, benchmark, shots)
                assert (r.system, r.benchmark) == (system, benchmark) and shots in r.tested and r.name in recipes(system, benchmark)
    assert {r.system for r in RECIPES.values()} == set(fss.list_models())
    assert {r.benchmark for r in RECIPES.values()} <= set(fss.benchmarks())


@pytest.mark.parametrize('name', recipes())
def test_a_recipe_can_be_made(name):
    r = recipe(name)
    make_cfg(_SYSTEMS[r.system].Cfg, r.options, r.system)                        # an unknown option is an error
    assert augment(r.augment, r.size, total=9).of('query', 3) is not None
    assert Recipe(**json.loads(json.dumps(asdict(r)))) == r


@pytest.mark.parametrize('name', [n for n in recipes() if n.endswith(('-pascal5i', '-toy'))])
def test_its_model_can_be_made(name):
    r = recipe(name)
    fss.create_model(r.system, r.backbone, False, **r.options)


def test_a_length_by_hand_takes_the_place_of_the_other():
    r = recipe('hsnet-pascal5i', steps=20)
    assert (r.steps, r.epochs, r.sources['steps']) == (20, None, 'set by hand')
    with pytest.raises(fss.OptionError, match='want one of the two'):
        recipe('hsnet-pascal5i', steps=20, epochs=2)
