"The same episodes for every number of workers and processes, on fresh caches"
import hashlib
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from fss_nb.data.episodes import benchmark, episode_loader
from fss_nb.data.protocol import protocol, protocols
from fss_nb.data.questions import Manifest
from fss_nb.data.toy import ToyBenchmark, toy_scene

HASHES = '''
import json, sys
from fss_nb.data.episodes import benchmark
from fss_nb.data.protocol import protocol, protocols
b = benchmark(sys.argv[1], **json.loads(sys.argv[2]))
print(json.dumps({n: protocol(n, b, fold=int(sys.argv[3]), shots=2).manifest().sha256 for n in protocols() if n != 'drawn'}))
'''

SHARD = '''
import hashlib, json, sys
from fss_nb.data.episodes import EpisodeDataset, benchmark
from fss_nb.data.protocol import protocol
b = benchmark('pascal5i', sys.argv[1]); p = protocol(sys.argv[2], b, fold=3, shots=2, episodes=10, list='all')
rank, ranks = int(sys.argv[3]), int(sys.argv[4])
data = EpisodeDataset(b, p, p.manifest().rows)
for i in range(rank, len(data), ranks):
    ep = data[i]
    print(i, ep.rows[0].line, hashlib.sha256(ep.query_img.numpy().tobytes()+ep.support_masks.numpy().tobytes()).hexdigest())
'''


def start(code, *args, cache):
    env = {**os.environ, 'FSS_NB_CACHE': str(cache), 'OMP_NUM_THREADS': '1', 'PYTHONHASHSEED': str(len(args))}
    return subprocess.Popen([sys.executable, '-c', code, *map(str, args)], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def said(process):
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out.strip().splitlines()


@pytest.fixture(scope='module')
def voc(tmp_path_factory):
    "A VOC2012 folder of 60 drawn pictures"
    root = tmp_path_factory.mktemp('voc')/'VOC2012'
    for d in ('JPEGImages', 'SegmentationClassAug', 'ImageSets/Segmentation'): (root/d).mkdir(parents=True)
    ids = [f'2100_{i:06d}' for i in range(60)]
    for i, id in enumerate(ids):
        pic, lab = (a[:90] for a in toy_scene(0, i, 120, target=16+i % 5))
        Image.fromarray(pic).save(root/f'JPEGImages/{id}.jpg')
        Image.fromarray(np.where(lab == 20, 255, lab).astype(np.uint8) if i % 7 == 0 else lab).save(root/f'SegmentationClassAug/{id}.png')
    (root/'ImageSets/Segmentation/val.txt').write_text('\n'.join(ids[::2]))
    return root


def test_other_processes_find_the_same_manifests(tmp_path):
    "Two at once, without a kept index, with other string hashes"
    options = dict(n_train=200, n_test=150)
    b = ToyBenchmark(**options)
    here = {n: protocol(n, b, fold=2, shots=2).manifest().sha256 for n in protocols() if n != 'drawn'}
    others = [start(HASHES, 'toy', json.dumps(options), 2, cache=tmp_path) for _ in range(2)]
    assert all(json.loads(said(p)[-1]) == here for p in others)
    assert here['imr'] == here['hsnet'] and len(set(here.values())) >= 6


@pytest.mark.parametrize('name', ['even', 'hsnet', 'panet', 'pfenet'])
def test_shards_make_the_whole(voc, tmp_path, name):
    "Two processes with half of the episodes each, both making the index at once, find what one finds"
    whole = said(start(SHARD, voc, name, 0, 1, cache=tmp_path/'one'))
    both = [start(SHARD, voc, name, rank, 2, cache=tmp_path/'two') for rank in range(2)]
    assert sorted(line for p in both for line in said(p)) == sorted(whole)
    assert not list((tmp_path/'two').glob('*.part'))


@pytest.mark.filterwarnings('ignore:This DataLoader will create')
@pytest.mark.parametrize('name', ['even', 'hsnet', 'bam'])
def test_workers_change_nothing(voc, name):
    p = protocol(name, benchmark('pascal5i', voc), fold=3, shots=2, episodes=8, size=64, list='all')
    want = p.manifest()
    seen = {}
    for workers in (0, 1, 4):
        rows, pixels = [], hashlib.sha256()
        for ep in episode_loader(p.b, p, 'test', 3, workers):
            rows += ep.rows
            pixels.update(ep.query_img.numpy().tobytes()+ep.query_mask.numpy().tobytes())
        assert Manifest(rows).sha256 == want.sha256
        seen[workers] = pixels.hexdigest()
    assert len(set(seen.values())) == 1
