"""The runs behind 90_lab.panet: PANet on the toy benchmark, all folds, three seeds, with and without alignment.

    python tools/lab_panet.py            appends to results/panet-toy.jsonl what is not there yet

One line of JSON per model, fold, seed and number of shots. All models are tested on the same 1000 episodes of a fold.
"""
import argparse
import json
import platform
import subprocess
import time
from pathlib import Path

import torch
from tqdm.auto import tqdm

import fss_nb as fss
from fss_nb.papers.baselines import AllForeground, ColourHistogram

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT/'results'/'panet-toy.jsonl'


def training_free(pretrained):
    def make(b, fold, seed):
        torch.manual_seed(seed)
        return fss.create_model('panet', backbone='tiny', pretrained=pretrained), {}
    return make


def trained(par):
    def make(b, fold, seed):
        m = fss.create_model('panet', backbone='tiny', pretrained='toy', par=par)
        start = time.perf_counter()
        run = fss.fit(m, b, recipe='panet-toy', fold=fold, seed=seed)
        return m, dict(steps=len(run.metrics()) and run.metrics()[-1]['step'], seconds=round(time.perf_counter()-start))
    return make


MODELS = {  # name: (how to make it, seeds)
    'all foreground': (lambda b, fold, seed: (AllForeground(), {}), (0,)),
    'random features': (training_free(False), (0, 1, 2)),
    'colour histogram': (lambda b, fold, seed: (ColourHistogram(), {}), (0,)),
    'training-free prototypes': (training_free('toy'), (0,)),
    'PANet without alignment': (trained(0.), (0, 1, 2)),
    'PANet': (trained(1.), (0, 1, 2)),
}


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('--episodes', type=int, default=1000)
    a = ap.parse_args()
    commit = subprocess.run(['git', 'describe', '--always', '--dirty', '--abbrev=12'], capture_output=True, text=True, cwd=ROOT).stdout.strip()
    done = {tuple(json.loads(l)[k] for k in ('model', 'fold', 'seed', 'shots')) for l in OUT.read_text().splitlines()} if OUT.exists() else set()
    OUT.parent.mkdir(exist_ok=True)
    b = fss.benchmark('toy')
    jobs = [(name, fold, seed) for seed in (0, 1, 2) for name, (_, seeds) in MODELS.items() if seed in seeds for fold in range(4)]
    for name, fold, seed in tqdm(jobs, desc='models'):
        if all((name, fold, seed, k) in done for k in (1, 5)):
            continue
        m, extra = MODELS[name][0](b, fold, seed)
        lines = []
        for k in (1, 5):
            r = fss.evaluate(m, b, fss.protocol('even', b, fold=fold, shots=k, episodes=a.episodes), progress=False)
            line = dict(model=name, fold=fold, seed=seed, shots=k, commit=commit, machine=platform.processor() or platform.machine(), torch=torch.__version__, **extra)
            lines.append({**r.to_dict(), **line})
        with OUT.open('a') as f:
            f.writelines(json.dumps(line)+'\n' for line in lines)


if __name__ == '__main__':
    main()
