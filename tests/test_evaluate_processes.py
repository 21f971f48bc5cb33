"Two real processes (gloo, CPU) count what one counts, to the last digit"
import json
import os
import subprocess
import sys

import pytest
from conftest import ROOT

SCRIPT = r'''
import contextlib, io, json, os, sys
import torch
import fss_nb as fss
import fss_nb.score.evaluate
assert 'accelerate' not in sys.modules                     # only processes that share the work need it

class Fails(torch.nn.Module):
    "NaN in one episode, the last of the second round"
    def __init__(self, m): super().__init__(); self.m = m
    def encode(self, imgs): return self.m.encode(imgs)
    def decode(self, f_query, f_support, masks, size):
        logits = self.m.decode(f_query, f_support, masks, size)
        bad = (masks.flatten(1).sum(1) == AREA).view(-1, 1, 1, 1)
        return torch.where(bad, torch.nan, logits)

b = fss.benchmark('toy', n_train=40, n_test=60)
torch.manual_seed(0)
panet = fss.load('panet-tiny-toy')
hsnet = fss.create_model('hsnet', backbone='tiny', pretrained='toy', channels=(4, 4, 8))
out = {}
for name, m, kind in (('panet', panet, 'even'), ('hsnet', hsnet, 'hsnet')):
    ps = [fss.protocol(kind, b, fold=1, shots=k, episodes=44) for k in (1, 5)]
    for how, options in (('roomy', {}), ('tight', dict(cache_bytes=10**6)), ('anew', dict(cache=False))):
        if name == 'hsnet' and how == 'anew': continue
        bar = io.StringIO()
        with contextlib.redirect_stderr(bar): rs = fss.evaluate(m, b, ps, batch_size=8, **options)
        assert ('episode' in bar.getvalue()) == (os.environ.get('RANK', '0') == '0')
        out[f'{name} {how}'] = [{**r.to_dict(), 'counts': r.counts.tolist(), 'clusters': r.clusters} for r in rs]
p = fss.protocol('even', b, fold=1, episodes=44)
def unchanged(ep): return ep
out['changed'] = fss.evaluate(panet, b, p, batch_size=8, progress=False, change=unchanged).counts.tolist()
out['one episode'] = fss.evaluate(panet, b, fss.protocol('even', b, episodes=1), progress=False).counts.tolist()
from fss_nb.data.episodes import EpisodeDataset
areas = [int(ep.support_masks.sum()) for ep in (EpisodeDataset(b, p, p.manifest().rows)[i] for i in range(16))]
AREA = next(a for a in areas[8:16] if areas.count(a) == 1)
try: fss.evaluate(Fails(panet), b, p, batch_size=8, progress=False)
except fss.FssError as e: out['error'] = str(e)
out['processes'] = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
with open(f"{sys.argv[1]}/{os.environ.get('RANK', 'alone')}.json", 'w') as f: json.dump(out, f)
'''


@pytest.fixture(scope='module')
def outs(tmp_path_factory):
    "What one process says, and each of two"
    folder = tmp_path_factory.mktemp('processes')
    (folder/'script.py').write_text(SCRIPT)
    env = {k: v for k, v in os.environ.items() if k not in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'MASTER_ADDR', 'MASTER_PORT')}
    env.update(OMP_NUM_THREADS='1', CUDA_VISIBLE_DEVICES='', PYTHONPATH=str(ROOT))
    torchrun = ['-m', 'torch.distributed.run', '--standalone', '--nproc_per_node', '2']
    for launcher in ([], torchrun):
        done = subprocess.run([sys.executable, *launcher, 'script.py', str(folder)], cwd=folder, env=env,
                              capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads((folder/f'{name}.json').read_text()) for name in ('alone', '0', '1')]


def test_there_were_two_processes(outs):
    assert [o['processes'] for o in outs] == [1, 2, 2]


@pytest.mark.parametrize('what', ['panet roomy', 'panet tight', 'panet anew', 'hsnet roomy', 'hsnet tight', 'changed', 'one episode'])
def test_every_process_reports_what_one_reports(outs, what):
    alone, first, second = (o[what] for o in outs)
    assert alone == first == second


def test_room_moves_no_count(outs):
    assert outs[0]['panet roomy'] == outs[0]['panet tight'] == outs[0]['panet anew']
    assert outs[0]['hsnet roomy'] == outs[0]['hsnet tight']


def test_the_one_that_fails_says_so_and_the_other_does_not_wait(outs):
    alone, first, second = (o['error'] for o in outs)
    assert alone.startswith('evaluate: found NaN in the logits of episode') and second == alone
    assert first.startswith('evaluate: found an error in another process, want none; process 1: FssError: ')
    assert alone in first
