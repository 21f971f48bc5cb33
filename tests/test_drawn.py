"Trainings on drawn episodes: stopped and taken up, painted here or by workers, they are one and the same; and the tool of the ablation"
import json

import lab_procedural
import pytest
import torch

import fss_nb as fss
from fss_nb.data.procedural import ProceduralBenchmark
from fss_nb.report.results import trained_model

SMALL = dict(size=32, batch=2, steps=6, warmup=2)


@pytest.fixture(scope='module')
def b(): return ProceduralBenchmark(size=32, n_test=8)


def weights(run): return trained_model(run, save=False).state_dict()


def same(one, other): return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


@pytest.fixture(scope='module')
def undisturbed(b, tmp_path_factory):
    return fss.fit(b=b, recipe='ridge-procedural', out=tmp_path_factory.mktemp('runs'), device='cpu', progress=False, **SMALL)


def test_stopped_and_taken_up_is_bit_for_bit_the_same(b, undisturbed, tmp_path):
    run = fss.fit(b=b, recipe='ridge-procedural', out=tmp_path, device='cpu', progress=False, until=3, **SMALL)
    assert run.step == 3 and not same(weights(run), weights(undisturbed))
    run = fss.fit(b=b, resume=run.path, device='cpu', progress=False)
    assert run.step == 6 and same(weights(run), weights(undisturbed))


def test_workers_paint_the_same_pictures(b, undisturbed, tmp_path):
    run = fss.fit(b=b, recipe='ridge-procedural', out=tmp_path, device='cpu', progress=False, workers=1, **SMALL)
    assert same(weights(run), weights(undisturbed))


def test_another_seed_sees_other_pictures(b, undisturbed, tmp_path):
    run = fss.fit(b=b, recipe='ridge-procedural', out=tmp_path, device='cpu', progress=False, seed=1, **SMALL)
    assert not same(weights(run), weights(undisturbed))
    pictures = [fss.protocol('drawn', b, shots=4, seed=s).train_row(0).query for s in (0, 1)]
    assert not (b.image(pictures[0]) == b.image(pictures[1])).all()


def test_the_ablation_leaves_out_what_it_says_and_repeats_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(lab_procedural, 'LEFT_OUT', ((), ('colour',)))
    seen, draw = [], ProceduralBenchmark.paint
    monkeypatch.setattr(ProceduralBenchmark, 'paint', lambda self, rows, *a: seen.append(self.without) or draw(self, rows, *a))
    monkeypatch.setattr('sys.argv', ['lab_procedural.py', '--steps', '2', '--episodes', '3', '--seeds', '0', '--out', str(tmp_path/'x.jsonl')])
    lab_procedural.main()
    lines = [json.loads(s) for s in (tmp_path/'x.jsonl').read_text().splitlines()]
    assert [x['without'] for x in lines] == [[], ['colour']] and seen == [()]*2+[('colour',)]*2
    assert all(0 <= x['val'][k]['miou'] <= 1 and x['val'][k]['ci'][0] <= x['val'][k]['ci'][1] for x in lines for k in '15')
    lab_procedural.main()
    assert len((tmp_path/'x.jsonl').read_text().splitlines()) == 2
