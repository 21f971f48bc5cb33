"""What each ingredient of the drawn episodes is worth: `ridge` trained for a short time without it, tested on episodes with everything.

    python tools/lab_procedural.py                 every set of LEFT_OUT with three seeds, results/procedural.jsonl, for 99_lab.any
    python tools/lab_procedural.py --part 0/2      every second training, so that two processes share the work

No photograph is looked at. What the file holds already is not run again.
"""
import argparse
import json
import subprocess
import tempfile
import time
from pathlib import Path

import torch

import fss_nb as fss
from fss_nb.data.procedural import ProceduralBenchmark
from fss_nb.report.results import trained_model

ROOT = Path(__file__).resolve().parent.parent
LEFT_OUT = ((), ('colour',), ('texture',), ('thin',), ('nested',), ('distractors', 'occluders'), ('light', 'camera'))


def trained(without, seed, steps, size):
    "The model after a short training, and its minutes"
    start, recipe = time.perf_counter(), fss.recipe('ridge-procedural', steps=steps, size=size)
    with tempfile.TemporaryDirectory() as out:
        run = fss.fit(b=ProceduralBenchmark(size, without=without), recipe=recipe, seed=seed, out=out, channels_last=True, progress=False, device='cpu')
        return trained_model(run, save=False), (time.perf_counter()-start)/60


def tested(m, episodes, size):
    "{shots: mIoU over kinds, and the IoU of each kind} on validation episodes with every ingredient"
    b, said = ProceduralBenchmark(size), {}
    for shots in (1, 5):
        r = fss.evaluate(m, b, fss.protocol('drawn', b, shots=shots, split='val', episodes=episodes), progress=False)
        said[shots] = dict(miou=r.miou, ci=list(map(float, r.ci)), per_kind=r.per_class)
    return said


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('--steps', type=int, default=200)
    ap.add_argument('--size', type=int, default=64, help='of the pictures, in pixels: small, so that three seeds can be paid on a processor')
    ap.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2])
    ap.add_argument('--episodes', type=int, default=200, help='of each test')
    ap.add_argument('--part', default='0/1', help='which part of how many')
    ap.add_argument('--out', type=Path, default=ROOT/'results'/'procedural.jsonl')
    a = ap.parse_args()
    torch.set_num_threads(1)
    commit = subprocess.run(['git', 'describe', '--always', '--dirty', '--abbrev=12'], capture_output=True, text=True, cwd=ROOT).stdout.strip()
    jobs = [(without, seed) for seed in a.seeds for without in LEFT_OUT]
    part, parts = map(int, a.part.split('/'))
    for without, seed in jobs[part::parts]:
        held = [json.loads(text) for text in a.out.read_text().splitlines()] if a.out.exists() else []
        if any((tuple(x['without']), x['seed'], x['steps'], x['size']) == (without, seed, a.steps, a.size) for x in held): continue
        m, minutes = trained(without, seed, a.steps, a.size)
        line = dict(without=without, seed=seed, steps=a.steps, size=a.size, minutes=round(minutes, 2), val=tested(m, a.episodes, a.size), commit=commit)
        with a.out.open('a') as f: f.write(json.dumps(line)+'\n')


if __name__ == '__main__': main()
