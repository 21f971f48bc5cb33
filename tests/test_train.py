"A training that is killed by the system again and again ends like one that was left in peace"
import os
import signal
import subprocess
import sys

import pytest
from conftest import ROOT

SCRIPT = '''
import sys, torch
from pathlib import Path
from torch import nn
from fss_nb.data.episodes import benchmark
from fss_nb.train.loop import Loop, fit
torch.set_num_threads(1)

class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0); self.layers = nn.Sequential(nn.Conv2d(3, 8, 5, 4), nn.Dropout(.2), nn.ReLU(), nn.Conv2d(8, 2, 1))
    def losses(self, ep):
        logits = nn.functional.interpolate(self.layers(ep.query_img), ep.size, mode='bilinear')
        return {'total': nn.functional.cross_entropy(logits, ep.query_mask.long())}

class Told(Loop):
    "Says which step was logged and waits for an answer"
    def log(self, step, losses): super().log(step, losses); print(step, flush=True); input()

out, b = Path(sys.argv[1]), benchmark('toy', size=48, n_train=120, n_test=40)
old = sorted(out.glob('*'))
how = dict(resume=old[0]) if old else dict(out=out, steps=30, batch=2, size=48)
fit(Tiny(), b, device='cpu', progress=False, save_every=1, loop=Told, **how)
'''


def train(out, kill_at=None):
    "Steps that were logged; after `kill_at` the process is killed in whatever it does next: save, clean up, draw"
    env = {**os.environ, 'PYTHONPATH': str(ROOT), 'TQDM_DISABLE': '1', 'OMP_NUM_THREADS': '1'}
    steps = []
    with subprocess.Popen([sys.executable, '-c', SCRIPT, str(out)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env) as p:
        for line in p.stdout:
            steps.append(int(line)); p.stdin.write('go on\n'); p.stdin.flush()
            if steps[-1] == kill_at: p.kill(); break
    assert p.returncode == (0 if kill_at is None else -signal.SIGKILL)
    return steps


def end(out):
    "Weights and metrics that a finished run left"
    from safetensors.torch import load_file
    from fss_nb.train.runs import Run
    run, = [Run.open(p) for p in out.iterdir()]
    assert run.step == 30
    return load_file(run.weights), run.metrics()


@pytest.mark.skipif(not hasattr(signal, 'SIGKILL'), reason='there is no SIGKILL on this system')
def test_killed_and_taken_up(tmp_path):
    peace, killed = tmp_path/'peace', tmp_path/'killed'
    assert train(peace) == list(range(30))
    assert train(killed, 3) == [0, 1, 2, 3]
    second = train(killed, 12)
    assert second[0] in (3, 4) and second[-1] == 12
    third = train(killed)
    assert third[0] in (12, 13) and third[-1] == 29
    (want, curve), (have, curve_2) = end(peace), end(killed)
    assert curve == curve_2 and want.keys() == have.keys()
    assert all((want[k] == have[k]).all() for k in want)
