"The tool behind 99_lab.any, on drawn pictures in the layout of fss-mini"
import json
from collections import Counter

import lab_any
import numpy as np
import pytest
import torch
from PIL import Image

import fss_nb as fss
from fss_nb.data.toy import toy_scene

PICTURES = {'gear': 6, 'ring': 5, 'star': 3}          # three shots: a star lends its two others


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp('drawn')
    for c, (name, n) in enumerate(PICTURES.items(), 1):
        (root/'fss-mini'/name).mkdir(parents=True)
        scenes = (toy_scene(7, i, 48, target=c) for i in range(99))
        for k, (pic, label) in zip(range(1, n+1), (s for s in scenes if (s[1] == c).mean() > .03)):
            Image.fromarray(pic).save(root/'fss-mini'/name/f'{k}.jpg')
            Image.fromarray(np.uint8(255*(label == c))).save(root/'fss-mini'/name/f'{k}.png')
    return root


@pytest.fixture
def run(data, tmp_path, monkeypatch):
    "Runs the tool, for scores alone unless told otherwise, and reads its lines"
    monkeypatch.setenv('FSS_NB_DATA', str(data)); monkeypatch.setenv('TORCH_HOME', str(tmp_path/'no weights'))
    out = tmp_path/'any.jsonl'

    def run(*words):
        lab_any.main(['--data', 'fss-mini', '--sizes', '32', '--threads', '1', '--out', str(out), '--speed', *words])
        return [json.loads(s) for s in out.read_text().splitlines()] if out.exists() else []
    return run


def test_every_object_is_asked_once_and_counted(run, data):
    lines = run('--shots', '1', '3', '--models', 'all foreground')
    for line, shots in zip(lines, (1, 3)):
        assert {n: c['episodes'] for n, c in line['classes'].items()} == PICTURES and line['episodes'] == sum(PICTURES.values())
        assert {n: c['supports'] for n, c in line['classes'].items()} == {n: min(shots, k-1) for n, k in PICTURES.items()}
        b = fss.benchmark('fss1000')
        asked = [r.query for o in line['asked'] for r in fss.protocol('even', b, **o).manifest().rows]
        assert sorted(asked) == sorted(b.ids('test')) and len(line['protocol_sha256']) == len(line['asked'])
        assert [fss.protocol('even', b, **o).sha256 for o in line['asked']] == line['protocol_sha256']
        for name, n in PICTURES.items():                     # everything is the object: IoU is the share of the pixels
            share = np.mean([np.array(Image.open(data/'fss-mini'/name/f'{k}.png').resize((32, 32), 0)) > 0 for k in range(1, n+1)])
            value, low, high = line['per_class'][name]
            assert abs(value-share) < 1e-4 and low <= value <= high
        assert abs(line['miou']-np.mean([v[0] for v in line['per_class'].values()])) < 2e-5 and line['ci'][0] <= line['miou'] <= line['ci'][1]


def test_the_counts_give_the_scores(run):
    line, = run('--shots', '3', '--models', 'panet-tiny-toy')
    t = np.array(line['counts'])
    assert dict(Counter(t[:, 0].tolist())) == {1: 6, 2: 5, 3: 3} and sorted(t[:, 5]) == list(range(14))
    iou = [t[t[:, 0] == c, 1].sum()/t[t[:, 0] == c, 2].sum() for c in (1, 2, 3)]
    fbiou = (t[:, 1].sum()/t[:, 2].sum()+t[:, 3].sum()/t[:, 4].sum())/2
    assert abs(np.mean(iou)-line['miou']) < 1e-5 and abs(fbiou-line['fbiou']) < 1e-5
    b, m = fss.benchmark('fss1000'), fss.load('panet-tiny-toy')
    alone = [fss.evaluate(m, b, fss.protocol('even', b, **o), progress=False).per_class for o in line['asked']]
    assert {n: round(v, 5) for r in alone for n, v in r.items()} == {n: v[0] for n, v in line['per_class'].items()}


def test_nothing_is_measured_twice_and_nothing_is_lost(run, monkeypatch):
    first = run('--shots', '1', '--models', 'RGB prototypes', lab_any.RESNET)
    assert ['miou' in x for x in first] == [True, False] and 'not cached' in first[1]['refused']
    again = ('--shots', '1', '--models', 'rivals', '--only', 'RGB')
    assert run('--shots', '1', '--models', 'RGB prototypes', lab_any.RESNET) == run(*again) == first
    assert [x['miou'] for x in run(*again, '--again')[2:]] == [first[0]['miou']]
    assert [x['quick'] for x in run(*again, '--quick')[3:]] == [True]          # other episodes are another line
    measured = lab_any.measured
    def fails_late(asked, *args):
        if asked.model == 'colour histogram': raise KeyboardInterrupt
        return measured(asked, *args)
    monkeypatch.setattr(lab_any, 'measured', fails_late)
    with pytest.raises(KeyboardInterrupt): run('--shots', '1', '--models', 'all foreground', 'colour histogram')
    lines = run(*again)
    assert len(lines) == 5 and lines[-1]['model'] == 'all foreground'


def test_files_are_seeds_of_a_name(run, tmp_path):
    m = fss.load('panet-tiny-toy')
    for s in (1, 2):
        m.card = {**m.card, 'seed': s}
        m.save_pretrained(tmp_path/str(s))
    words = ['panet-tiny-toy', f'panet-tiny-toy={tmp_path/"1"}', f'panet-tiny-toy={tmp_path/"2"/"model.safetensors"}', str(tmp_path/'2')]
    lines = run('--shots', '1', '--models', *words)
    assert [(x['model'], x['seed']) for x in lines] == [('panet-tiny-toy', s) for s in (0, 1, 2)]+[('panet-toy', 2)]
    assert len({x['weights'] for x in lines}) == 3 and len({x['miou'] for x in lines}) == 1 and lines[1]['card']['seed'] == 1
    with pytest.raises(fss.FssError, match="unknown model 'panet-tiny-toi': did you mean 'panet-tiny-toy'"): run('--models', 'panet-tiny-toi')


def test_random_weights_have_three_seeds(run):
    assert [(m.model, m.seed) for m in lab_any.models(['rivals'])][4:7] == [('random weights, prototypes', s) for s in range(3)]
    a, b = (lab_any.Asked('random weights, prototypes', s).make().state_dict() for s in (0, 1))
    same = lab_any.Asked('random weights, prototypes', 0).make().state_dict()
    assert all(torch.equal(a[k], same[k]) for k in a) and not all(torch.equal(a[k], b[k]) for k in a)


def test_speed_is_measured_in_a_process_of_its_own(run):
    words = '--shots', '3', '--models', 'panet-tiny-toy', '--quick', '--speed', 'fss-mini'
    line, = run(*words, '--only', 'speed')
    assert line['what'] == 'speed' and 'miou' not in line and (line['asks'], line['turns'], line['threads']) == (2, 1, 1)
    ours, forest = line['seconds'], line['forest_seconds']
    assert set(forest) == {'encode', 'decode', 'picture', 'cpu', 'fit'} and set(ours) == set(forest)-{'fit'} | {'load', 'first_mask'}
    assert all(0 < v < 600 for v in (*ours.values(), *forest.values())) and abs(ours['encode']+ours['decode']-ours['picture']) < 1e-4
    assert forest['fit'] < forest['decode']
    assert [x['what'] for x in run(*words)] == ['speed', 'score']              # what is there is not measured again


def test_a_time_is_the_shortest_of_each_question_and_the_mean_of_all(run, monkeypatch):
    seen = []
    def one_query(m, ep): # the n-th call takes n seconds; the forest's are counted with ours
        seen.append((m, ep))
        return dict(picture=float(len(seen)), cpu=-float(len(seen)))
    monkeypatch.setattr(lab_any, 'one_query', one_query); monkeypatch.delattr(lab_any.os, 'sched_setaffinity', raising=False)
    got = lab_any.speed(lab_any.Asked('RGB prototypes', 0), 'fss-mini', 32, 1, torch.get_num_threads(), asks=3, turns=2)
    assert [got[k]['picture'] for k in ('seconds', 'forest_seconds')] == [(1+5+9)/3, (2+6+10)/3]
    assert got['seconds']['cpu'] == -5                                         # of the same call as the shortest time
    assert [type(m).__name__ for m, _ in seen] == ['RGBPrototypes', 'PixelForest']*6
    assert all(torch.equal(a.query_img, b.query_img) for (_, a), (_, b) in zip(seen[::4], seen[3::4]))      # a question's four calls
