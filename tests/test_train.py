"A training that the system kills again and again, whenever it likes, ends like one that was left in peace"
import os
import random
import signal
import subprocess
import sys
import time

import pytest
from conftest import ROOT

SCRIPT = '''
import sys, torch
from pathlib import Path
from torch import nn
from fss_nb.data.episodes import benchmark
from fss_nb.train.fit import fit
from fss_nb.train.loop import Loop
torch.set_num_threads(1)

class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0); self.layers = nn.Sequential(nn.Conv2d(3, 8, 5, 4), nn.Dropout(.2), nn.ReLU(), nn.Conv2d(8, 2, 1))
    def encode(self, imgs): return {'f': self.layers(imgs)}
    def decode(self, f_query, f_support, masks, size): return nn.functional.interpolate(f_query['f'], size, mode='bilinear')
    def losses(self, ep):
        return {'total': nn.functional.cross_entropy(self.decode(self.encode(ep.query_img), 0, 0, ep.size), ep.query_mask.long())}

class Told(Loop):
    "Says which step was logged"
    def log(self, step, losses): super().log(step, losses); print(step, flush=True)

out, b = Path(sys.argv[1]), benchmark('toy', size=48, n_train=120, n_test=40)
old = sorted(out.glob('*'))
how = dict(resume=old[0]) if old else dict(out=out, steps=100, batch=2, size=48, select='base-val', val_every=7, val_episodes=20)
fit(Tiny(), b, device='cpu', progress=False, save_every=2, loop=Told, **how)
'''
STEPS, KILLS = 100, 12


def train(out, after=None):
    "Steps that were logged; with `after` = (steps, seconds) the process is killed that long after so many of them"
    env = {**os.environ, 'PYTHONPATH': str(ROOT), 'TQDM_DISABLE': '1', 'OMP_NUM_THREADS': '1'}
    steps = []
    with subprocess.Popen([sys.executable, '-c', SCRIPT, str(out)], stdout=subprocess.PIPE, text=True, env=env) as p:
        for line in p.stdout:
            steps.append(int(line))
            if after and len(steps) == after[0]:
                time.sleep(after[1]); p.kill()
    assert p.returncode == (-signal.SIGKILL if after else 0)
    return steps


def end(out):
    "The bytes of all weights and the metrics that a finished run left"
    from fss_nb.train.runs import Run
    run, = [Run.open(p) for p in out.iterdir()]
    assert run.step == STEPS
    kept = {p.relative_to(run.path).as_posix(): p.read_bytes() for p in sorted(run.path.rglob('*.safetensors'))}
    return kept, run.metrics(), run.checkpoint


@pytest.mark.skipif(not hasattr(signal, 'SIGKILL'), reason='there is no SIGKILL on this system')
def test_killed_and_taken_up(tmp_path):
    "Twelve kills at random moments: in a step, in a look, within a checkpoint being written or an older one removed"
    peace, killed, dice = tmp_path/'peace', tmp_path/'killed', random.Random(2026)
    assert train(peace) == list(range(STEPS))
    seen, again = [], 0
    for _ in range(KILLS):
        steps = train(killed, (dice.randint(3, 6), dice.uniform(0, .03)))
        assert not seen or steps[0] <= seen[-1]+1                          # nothing was left out
        again += bool(seen) and steps[0] <= seen[-1]
        seen = steps
    assert seen[-1] < STEPS-1 and again                                    # it was never done, and steps were lost and repeated
    train(killed)
    (want, curve, which), (have, curve_2, which_2) = end(peace), end(killed)
    assert (curve, which) == (curve_2, which_2) and want.keys() == have.keys()
    assert all(want[k] == have[k] for k in want) and len(want) == 3        # two checkpoints and the best


DEAD = '''
import os, signal, sys, torch
from fss_nb.core import FssError
from fss_nb.data.toy import ToyBenchmark
from fss_nb.papers.zoo import fit

class Deadly(ToyBenchmark):
    "One picture kills the process that reads it"
    def image(self, id):
        if id == sys.argv[2] and os.getpid() != main: os.kill(os.getpid(), signal.SIGKILL)
        return super().image(id)

main, b = os.getpid(), Deadly(n_train=60, n_test=40)
try: fit(None, b, 'panet-toy', out=sys.argv[1], device='cpu', steps=30, batch=2, workers=2, save_every=1, progress=False)
except FssError as e: print(e)
'''


def test_a_killed_reader_is_one_line(tmp_path):
    import fss_nb as fss
    from fss_nb.train.runs import Run
    b = fss.benchmark('toy', n_train=60, n_test=40)
    p = fss.protocol('even', b, seed=0)
    asked = [p.train_row(i).pictures for i in range(60)]
    target = next(x for x in asked[20] if all(x not in pics for pics in asked[:20]))      # first seen in step 10
    env = {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'}
    done = subprocess.run([sys.executable, '-c', DEAD, str(tmp_path), target], capture_output=True, text=True, env=env, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    said = done.stdout.strip()
    assert said.count('\n') == 0 and 'found a reading process that the system has killed' in said and 'lower workers=' in said
    run, = [Run.open(x) for x in tmp_path.iterdir()]
    assert 1 <= run.step <= 10 and f'last checkpoint is of step {run.step}' in said
    fss.fit(None, b, resume=run.path, device='cpu', progress=False)                       # and goes on without workers
    whole = fss.fit(None, b, 'panet-toy', out=tmp_path/'whole', device='cpu', steps=30, batch=2, progress=False)
    assert run.step == 30 and run.weights.read_bytes() == whole.weights.read_bytes()
