"""The runs behind the laboratory notebooks: models trained on the toy benchmark, tested on novel and base classes.

    python tools/lab.py panet        90_lab.panet       results/panet-toy.jsonl, with --episodes 1000
    python tools/lab.py decoders     92_lab.decoders    results/decoders-toy.jsonl
    python tools/lab.py simpropnet   93_lab.simpropnet  results/simpropnet-toy.jsonl
    python tools/lab.py crcnet       94_lab.crcnet      results/crcnet-toy.jsonl
    python tools/lab.py apanet       95_lab.apanet      results/apanet-toy.jsonl
    python tools/lab.py apanet_plain, apanet_switches   the same, the other host and the options
    python tools/lab.py hsnet        96_lab.hsnet       results/hsnet-toy.jsonl
    python tools/lab.py imr_hsnet    97_lab.imr_hsnet   results/imr_hsnet-toy.jsonl

One line of JSON per model, fold, seed and test. What the file holds already is not run again; `--part 0/2` does every
second run, so that two processes share the work. All models of a fold are tested on the same episodes.
"""
import argparse
import json
import platform
import subprocess
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import nn
from tqdm.auto import tqdm

import fss_nb as fss
from fss_nb.data.coarse import without_support
from fss_nb.data.toy import ToyBenchmark
from fss_nb.papers.baselines import AllForeground, ColourHistogram
from fss_nb.papers.hsnet import mutual
from fss_nb.papers.simpropnet import identical_inputs
from fss_nb.train.loop import Loop
from fss_nb.train.seeds import seeder

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Job:
    "One model to train, or to take as it is, and the tests it is put to"
    model: str                          # its name in the tables
    system: str                         # of `fss.create_model`, or a class without weights
    fold: int
    seed: int = 0
    options: dict = field(default_factory=dict)     # of the system
    train: bool = True                  # with the recipe '<system>-toy'
    hidden: float = None                # training pictures: chance of a hidden novel object; None: the benchmark's own
    tests: tuple = ((1, 'novel', {}), (5, 'novel', {}), (1, 'base', {}))    # shots, classes, options at test time
    seeds: str = None                   # coarse masks of training, a name for `seeder`; None: the recipe's
    coarse: bool = False                # train with coarse masks of the support instead of outlines


def make(job, quick):
    "The model of a job, trained if it is to be, and what is known of its training"
    torch.manual_seed(job.seed)
    if not isinstance(job.system, str):
        return job.system(), {}
    seeds = {} if job.seeds is None else {'seeds': job.seeds}
    recipe = fss.recipe(f'{job.system}-toy', **quick, **seeds)
    pretrained = job.options.get('pretrained', 'toy')
    options = {**recipe.options, **{k: v for k, v in job.options.items() if k != 'pretrained'}}
    m = fss.create_model(job.system, backbone='tiny', pretrained=pretrained, **options)
    if not job.train:
        return m, {}
    b = ToyBenchmark() if job.hidden is None else ToyBenchmark(hidden=job.hidden, fold=job.fold)
    start = time.perf_counter()
    run = fss.fit(m, b, recipe=fss.recipe(recipe, options=options), fold=job.fold, seed=job.seed, progress=False,
                  loop=CoarseLoop if job.coarse else Loop)
    losses = [row['loss'] for row in run.metrics()]
    return m, dict(steps=len(losses), last_loss=sum(losses[-20:])/len(losses[-20:]), seconds=round(time.perf_counter()-start))


def coarse_support(ep):
    "The coarse masks as if somebody had outlined them"
    return replace(ep, support_masks=(ep.support_seeds > .5).to(ep.support_masks.dtype))


class CoarseLoop(Loop):
    def draw(self):
        return [(coarse_support(ep), features) for ep, features in super().draw()]


class CoarseMask(nn.Module):
    "Answers with the coarse mask itself"
    name = 'coarse mask'

    def forward(self, ep):
        seeds = ep.query_seeds
        return torch.cat([torch.full_like(seeds[:, :1], .5), seeds], 1)


class Mutual(nn.Module):
    "Simple mutual iteration with a model"
    def __init__(self, m, rounds):
        super().__init__()
        self.m, self.rounds, self.name = m, rounds, m.name

    def forward(self, ep):
        return mutual(self.m, ep, self.rounds)


CHANGES = {('query', 'support'): identical_inputs, ('support', 'none'): without_support, ('support', 'coarse'): coarse_support}


def change_of(b, options):
    "What is done to test episodes first, or None; its words are taken out of the options"
    steps = [seeder(options.pop('seeds'), b)] if 'seeds' in options else []
    steps += [change for (key, word), change in CHANGES.items() if options.get(key) == word and options.pop(key)]
    if not steps:
        return None

    def change(ep):
        for step in steps:
            ep = step(ep)
        return ep
    change.__name__ = ', '.join(step.__name__ for step in steps)
    return change


def with_options(m, options):
    "The same weights under other options"
    if not options:
        return m
    twin = fss.create_model(m.name, backbone=m.backbone_name, **{**m.cfg.__dict__, **options})
    twin.load_state_dict(m.state_dict())
    return twin


def measure(m, job, episodes):
    "Lines of results, one a test"
    b = ToyBenchmark()
    base = [c for c in range(1, 21) if c not in b.folds[job.fold]]
    for shots, classes, options in job.tests:
        test = {k: v for k, v in options.items() if k != 'episodes'}
        own = dict(test)
        n, rounds, change = options.get('episodes', episodes), own.pop('rounds', 0), change_of(b, own)
        p = fss.protocol('even', b, fold=job.fold, shots=shots, episodes=n, **({} if classes == 'novel' else {'classes': base}))
        asked = with_options(m, own)
        start = time.perf_counter()
        r = fss.evaluate(Mutual(asked, rounds) if rounds else asked, b, p, progress=False, change=change)
        yield dict(r.to_dict(), shots=shots, classes=classes, test=test, test_seconds=round(time.perf_counter()-start))


FREE = Job('training-free prototypes', 'panet', 0, train=False)
TRAINED = (1, 'novel', {}), (5, 'novel', {})
ABLATIONS = {
    'simpropnet': {'neither': dict(dpr=False, fbaf=False), 'dual prediction': dict(fbaf=False), 'FBAF': dict(dpr=False),
                   'both': dict(ica=0.), 'both and channel averaging': {}},
    'crcnet': {'as published': {}, 'cross-reference only': dict(global_condition=False, local_condition=False),
               'condition only': dict(cross_reference=False), 'global only': dict(local_condition=False),
               'local only': dict(global_condition=False), 'no refinement': dict(refine=False),
               'softmax gate': dict(gate='softmax'), 'ReLU gate': dict(gate='relu'),
               'local without mask': dict(local_mask='none'), 'local, true masking': dict(local_mask='-inf'),
               'layer4 only': dict(levels=('layer4',))},
    'apanet': {'n = 1': dict(n=1), 'n = 2': dict(n=2), 'n = 5': dict(n=5), 'lambda = 0.3': dict(lam=.3),
               'lambda = 0.9': dict(lam=.9), 'prior 0 in the second question': dict(second_prior='zeros'),
               'lambda = 1': dict(lam=1.), 'grid 4x4': dict(regions='grid'), 'support side': dict(side='support'),
               'no negatives': dict(negative='none')},
    'imr_hsnet': {'linear weights': dict(step_loss='linear'), 'last step only': dict(step_loss='none'), 'plain cell': dict(cell='plain'),
                  'masks as in the official program': dict(mask_mode='official')}}
FEW = dict(episodes=60)         # finetuning takes seconds an episode
CRC_TESTS = ((1, 'novel', {}), (1, 'base', {}), (5, 'novel', {}), (10, 'novel', {}),
             *((1, 'novel', dict(steps_test=t)) for t in (1, 2, 3, 5)),
             *((k, 'novel', dict(k_shot=rule, **FEW)) for k in (1, 5, 10) for rule in ('fuse', 'finetune', 'finetune+fuse')))
SHOTS = tuple((k, 'novel', {}) for k in (1, 2, 3, 5))
CAM, COSINE, COARSE = 'clip-tiny-toy', 'clip-tiny-toy:cosine', tuple(f'coarse-{q}' for q in (.2, .4, .6, .8))
AS_OUTLINES = (*((1, 'novel', {'seeds': CAM, 'support': 'coarse', **rounds}) for rounds in ({}, {'rounds': 1}, {'rounds': 2})),
               (1, 'novel', {}), (1, 'novel', {'seeds': COSINE, 'support': 'coarse'}),
               *((1, 'novel', {'seeds': s, 'support': 'coarse'}) for s in COARSE))
IMR_TESTS = ((1, 'novel', {'seeds': CAM}), *((1, 'novel', {'seeds': CAM, 'steps': t}) for t in (1, 3, 4)), (1, 'base', {'seeds': CAM}),
             (5, 'novel', {'seeds': CAM}), (1, 'novel', {'seeds': CAM, 'support': 'none'}), (1, 'novel', {'seeds': COSINE}),
             *((1, 'novel', {'seeds': s}) for s in COARSE))


def apanet_pair(fold, seed, **host):
    "APANet and its host, where training pictures hide novel objects and where they do not"
    for word, hidden in (('', None), (', nothing hidden', 0.)):
        for name, options in (('host', dict(lam=0.)), ('apanet', {})):
            yield Job(name+word, 'apanet', fold, seed, {**options, **host}, hidden=hidden)


SETS = {
    'panet': [replace(job, fold=fold, tests=TRAINED) for seed in (0, 1, 2) for job, seeds in (
        (Job('all foreground', AllForeground, 0, seed, train=False), (0,)),
        (Job('random features', 'panet', 0, seed, {'pretrained': False}, train=False), (0, 1, 2)),
        (Job('colour histogram', ColourHistogram, 0, seed, train=False), (0,)),
        (FREE, (0,)),
        (Job('PANet without alignment', 'panet', 0, seed, {'par': 0.}), (0, 1, 2)),
        (Job('PANet', 'panet', 0, seed), (0, 1, 2))) if seed in seeds for fold in range(4)],
    'decoders': [job for fold in range(4) for job in (
        replace(FREE, fold=fold), *(Job(s, s, fold, hidden=0.) for s in ('panet', 'crcnet', 'canet', 'simpropnet', 'pfenet_crc')))],
    'simpropnet': [Job(name, 'simpropnet', 0, 0, options, hidden=0., tests=(*Job.tests, (1, 'novel', {'query': 'support'})))
                   for name, options in ABLATIONS['simpropnet'].items()],
    'crcnet': [Job(name, 'crcnet', 0, 0, options, hidden=0., tests=CRC_TESTS if not options else CRC_TESTS[:2])
               for name, options in ABLATIONS['crcnet'].items()],
    'apanet': [job for fold in range(4) for job in apanet_pair(fold, 0)],
    'apanet_plain': [job for fold in range(4) for job in apanet_pair(fold, 0, host='plain', init='he')],
    'hsnet': [job for fold in range(4) for job in (
        replace(FREE, fold=fold, tests=SHOTS), Job('HSNet', 'hsnet', fold, hidden=0., tests=(*SHOTS, (1, 'base', {}))))]
    + [Job('HSNet, mask after the norm', 'hsnet', 0, 0, {'mask': 'after'}, hidden=0., tests=SHOTS[:1])],
    'imr_hsnet': [
        Job('coarse mask', CoarseMask, 0, train=False, tests=[(1, 'novel', {'seeds': s}) for s in (CAM, COSINE, *COARSE)]),
        Job('HSNet', 'hsnet', 0, hidden=0., tests=AS_OUTLINES),
        Job('HSNet, retrained', 'hsnet', 0, hidden=0., seeds=CAM, coarse=True, tests=AS_OUTLINES[:3]),
        Job('IMR-HSNet', 'imr_hsnet', 0, hidden=0., tests=IMR_TESTS),
        *(Job('IMR-HSNet, '+name, 'imr_hsnet', 0, 0, options, hidden=0., tests=IMR_TESTS[:1]) for name, options in ABLATIONS['imr_hsnet'].items()),
        Job('IMR-HSNet, simulated 0.5', 'imr_hsnet', 0, hidden=0., seeds='coarse-0.5', tests=IMR_TESTS[:1]+IMR_TESTS[-4:]),
        Job('PFENet', 'pfenet', 0, hidden=0., tests=((1, 'novel', {}), (1, 'novel', {'seeds': CAM, 'support': 'coarse'}))),
        Job('IMR-PFENet', 'imr_pfenet', 0, hidden=0., tests=IMR_TESTS[:1])],
    'apanet_switches': [Job(name, 'apanet', 0, 0, options) for name, options in ABLATIONS['apanet'].items()],
}


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('set', choices=SETS)
    ap.add_argument('--episodes', type=int, default=500, help='of each test')
    ap.add_argument('--part', default='0/1', help='which share of the runs, e.g. 1/2')
    ap.add_argument('--steps', type=int, help='of training, instead of the recipe\'s (for a trial)')
    ap.add_argument('--out', help='instead of results/<set>-toy.jsonl')
    a = ap.parse_args()
    out = Path(a.out) if a.out else ROOT/'results'/f'{a.set}-toy.jsonl'
    part, parts = map(int, a.part.split('/'))
    commit = subprocess.run(['git', 'describe', '--always', '--dirty', '--abbrev=12'], capture_output=True, text=True, cwd=ROOT).stdout.strip()
    key = ('model', 'fold', 'seed')
    done = {tuple(json.loads(line)[k] for k in key) for line in out.read_text().splitlines()} if out.exists() else set()
    about = dict(commit=commit, machine=platform.processor() or platform.machine(), torch=torch.__version__)
    for job in tqdm(SETS[a.set][part::parts], desc=a.set):
        if (job.model, job.fold, job.seed) in done:
            continue
        m, training = make(job, {} if a.steps is None else {'steps': a.steps})
        lines = [{**line, 'model': job.model, 'fold': job.fold, 'seed': job.seed, **about, **training}
                 for line in measure(m, job, a.episodes)]
        with out.open('a') as f:
            f.writelines(json.dumps(line)+'\n' for line in lines)


if __name__ == '__main__':
    main()
