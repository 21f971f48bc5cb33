"Two processes train as one: the same episodes, the same looks, the same weights but for the order of additions"
import json
import os
import subprocess
import sys

import pytest
from conftest import ROOT

SCRIPT = '''
import json, sys, torch
from pathlib import Path
from fss_nb.data.episodes import benchmark
from fss_nb.papers.zoo import create_model, fit
from fss_nb.train.loop import Loop
from fss_nb.train.recipe import recipe as get_recipe
torch.set_num_threads(1)
out, recipe, options = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
wide = options.pop('wide', False)     # 64 bits everywhere

class Noted(Loop):
    "Writes down who drew what"
    def draw(self):
        pieces = super().draw()
        with open(f'{out}-{self.acc.process_index}.txt', 'a') as f:
            f.write(' '.join(r.line for ep, _ in pieces for r in ep.rows)+'\\n')
        return [(ep.to(dtype=torch.float64), f) for ep, f in pieces] if wide else pieces

torch.manual_seed(0)
m = create_model(get_recipe(recipe).system, 'tiny', 'toy', **get_recipe(recipe).options).double() if wide else None
b = benchmark('toy', n_train=120, n_test=60)
which = {} if 'resume' in options else dict(recipe=recipe, out=out)
fit(m, b, device='cpu', progress=False, loop=Noted, **which, **options)
'''
HOW = dict(steps=5, batch=4)


def start(out, processes, recipe, options):
    "The script in as many processes"
    script = out.parent/'train.py'
    script.write_text(SCRIPT)
    launch = ['-m', 'torch.distributed.run', '--standalone', '--nproc_per_node', str(processes)] if processes > 1 else []
    env = {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': ''}
    words = [sys.executable, *launch, str(script), str(out), recipe, json.dumps(options)]
    done = subprocess.run(words, capture_output=True, text=True, env=env, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]


def train(out, processes, recipe, **options):
    "What a real training left: weights, metrics, and the rows of each step"
    from safetensors.torch import load_file
    from fss_nb.train.runs import Run
    start(out, processes, recipe, {**HOW, **options})
    run = sorted((Run.open(p) for p in out.iterdir()), key=lambda r: len(r.path.name))[-1]
    assert run.options['processes'] == processes
    each = [open(f'{out}-{rank}.txt').read().splitlines() for rank in range(processes)]
    return load_file(run.path/'checkpoints'/f'{run.step:08d}'/'weights.safetensors'), run, [' '.join(x) for x in zip(*each)]


def compare(tmp_path, recipe, close, **options):
    "Runs of one and of two processes, whose losses are as close as that; the largest difference of a weight"
    (one, run_1, rows_1), (two, run_2, rows_2) = (train(tmp_path/str(n), n, recipe, **options) for n in (1, 2))
    assert rows_1 == rows_2 and len(rows_1) == 5                     # the same batches, each episode once
    assert run_1.options['protocol'] == run_2.options['protocol'] and one.keys() == two.keys()
    losses = [[r['loss'] for r in run.metrics() if 'loss' in r] for run in (run_1, run_2)]
    assert len(losses[0]) == 5 and max(abs(a-b) for a, b in zip(*losses)) < close
    return run_1, run_2, max((one[k].double()-two[k].double()).abs().max().item() for k in one)


SGD = dict(optimiser='sgd', lr=.01, momentum=.9, schedule='constant')


@pytest.mark.parametrize('recipe, options', [('panet-toy', {}), ('panet-toy', {'accumulate': 2}), ('crcnet-toy', {})])
def test_two_are_as_one(tmp_path, recipe, options):
    "64 bits (of the loss, 32 are written down): PANet aligns with its own answer, and in 32 a pixel on the edge of it may fall to either side"
    assert compare(tmp_path, recipe, 1e-6, wide=True, features=None, **SGD, **options)[2] < 1e-9


def test_two_are_as_one_in_32_bits(tmp_path):
    "HSNet has no such edge, and reads kept features"
    run_1, run_2, apart = compare(tmp_path, 'hsnet-toy', 1e-5, **SGD, val_every=3, val_episodes=30, select='novel')
    assert apart < 1e-6
    (steps, looks), (_, looks_2) = run_1.curve('val'), run_2.curve('val')
    assert list(steps) == [2, 4] and (abs(looks-looks_2) < 1e-3).all()    # last digits of weights


@pytest.mark.parametrize('recipe, options', [('panet-toy', {}), ('hsnet-toy', {}), ('imr_hsnet-toy', {'seeds': 'coarse-0.6'})])
def test_with_adam(tmp_path, recipe, options):
    "Adam divides by the gradient's length, so where that is nearly 0 the last digits of 32 bits decide; 64 have enough"
    assert compare(tmp_path, recipe, 1e-6, wide=True, features=None, **options)[2] < 1e-9


def test_stopped_and_taken_up_by_two(tmp_path):
    whole, _, _ = train(tmp_path/'whole', 2, 'panet-toy')
    _, part, _ = train(tmp_path/'part', 2, 'panet-toy', until=2)
    start(tmp_path/'part', 2, 'panet-toy', dict(resume=str(part.path)))
    from safetensors.torch import load_file
    again = load_file(part.path/'checkpoints'/'00000005'/'weights.safetensors')
    assert part.step == 5 and all((whole[k] == again[k]).all() for k in whole)
    assert len(list((part.path/'checkpoints'/'00000005').glob('random_states_*'))) == 2     # dice of both
