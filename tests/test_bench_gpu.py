"The script that measures a graphics card, on a processor, small: every system asked for has its row"
import json
import os
import subprocess
import sys

import pytest
import torch
from bench_gpu import tried
from conftest import ROOT
from fss_nb.core import FssError

SMALL = '--device cpu --size 64 --steps 2 --backbone tiny'


def run(folder, args):
    env = {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': '', 'TQDM_DISABLE': '1'}
    done = subprocess.run([sys.executable, 'tools/bench_gpu.py', '--out', str(folder/'gpu.json'), *f'{SMALL} {args}'.split()],
                          cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads((folder/'gpu.json').read_text())


@pytest.fixture(scope='module')
def out(tmp_path_factory):
    return run(tmp_path_factory.mktemp('gpu'), '--systems panet,pfenet,hsnet --batch 2')


def test_every_system_has_its_rows(out):
    assert [(r['system'], r['features'] == 'kept') for r in out['systems']] == [
        ('panet', False), ('pfenet', False), ('hsnet', False), ('hsnet', True)]
    assert not any('error' in r for r in out['systems'])
    assert all(r['size'] == 64 and r['batch'] == 2 and r['backbone'] == 'tiny' and r['amp'] is None for r in out['systems'])


def test_numbers_are_possible(out):
    assert out['ceilings']['matmul_tflops'] > 0 and out['ceilings']['copy_gbs'] > 0
    for r in out['systems']:
        assert r['episodes_per_s'] > 0 and r['tflop'] > 0 and r['gb'] > 0 and r['peak_gib'] is None
        assert r['matmul_share'] > 0 and r['copy_share'] > 0
        assert all(0 <= v <= 1 for v in [r['backbone_share'], *r['shares'].values()])
        assert .99 < sum(r['shares'].values()) < 1.01
        assert (r['backbone_share'] == 0) == (r['features'] == 'kept') and r['backbone_share'] <= r['shares']['forward']
    anew, kept = out['systems'][2:]
    assert kept['tflop'] < anew['tflop']                       # the backbone's operations are gone, no others


def test_it_says_what_it_ran_on(out):
    assert out['machine']['device'] == 'cpu' and 'no graphics card' in out['machine']['note'] and out['machine']['card'] is None
    assert {'torch', 'commit', 'driver', 'hardware'} <= {*out['machine']}
    assert 'before the clock starts' in out['how']['episodes'] and 'flop_counter' in out['how']['tflop']


def test_short_trainings(tmp_path):
    rows = run(tmp_path, '--systems pfenet --batch 2 --train --train-steps 2 --episodes 5')['training']
    assert [(r['system'], r['backbone'], r['steps']) for r in rows] == [('pfenet', 'tiny', 2), ('pfenet', 'resnet50', 2)]
    for r in rows:
        assert r['loss_start'] > 0 and r['loss_end'] > 0
        assert all(0 <= r[k][c] <= 100 for k in ('miou_before', 'miou_after') for c in ('novel', 'base'))


def test_one_failure_does_not_stop_the_rest():
    def fails(error, cause=None): raise error from cause
    full = torch.OutOfMemoryError('CUDA out of memory.\nTried ...')
    row = tried(dict(system='hsnet'), fails, FssError('fit: found no memory left'), full)
    assert row == dict(system='hsnet', error='FssError: fit: found no memory left', out_of_memory=True)
    assert tried({}, fails, full)['out_of_memory'] and not tried({}, fails, FssError('fit: found a nan'))['out_of_memory']
    assert tried(dict(system='panet'), lambda x: dict(steps=x), 3) == dict(system='panet', steps=3)
