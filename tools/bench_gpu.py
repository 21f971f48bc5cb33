"""Every system at paper size on the graphics card that is there: speed, memory, and how far from what the card can do.

    python tools/bench_gpu.py                                    every system, 200 steps each, into results/gpu.json
    python tools/bench_gpu.py --train                            and short trainings on toy at 473 pixels
    python tools/bench_gpu.py --systems hsnet,pfenet --amp fp16  some of them, otherwise
    python tools/bench_gpu.py --size 64 --steps 2 --backbone tiny --out x.json        where there is no card: a trial of the script

It needs this repository, its requirements and nothing else: random weights, drawn pictures. Each system runs with the recipe
`SYSTEM-pascal5i` (backbone, size, batch, optimiser, options) through `fit`, with a `Loop` that marks its verbs in the card's
queue; a system with a frozen backbone on stored statistics runs a second time with its features kept. The JSON is written anew
after each system, so a run that is broken off leaves what it has. The field `how` says how each number was made.
A system that does not fit into the card's memory says so in its row. The script ends with 1 if a system failed otherwise.
"""
import argparse
import gc
import json
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from time import perf_counter

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

import fss_nb as fss
from fss_nb.core import FssError, to_image
from fss_nb.papers.zoo import create_model
from fss_nb.report.bench import TimedLoop
from fss_nb.score.evaluate import evaluate
from fss_nb.train.fit import fit
from fss_nb.train.recipe import find_recipe, recipe
from fss_nb.train.runs import environment
from fss_nb.train.seeds import seeder

HELD = 2                                       # batches that are drawn; then they take turns
VERBS = ('draw', 'forward', 'backward', 'update')
HOW = dict(
    episodes=f'{HELD} batches of toy scenes, drawn, resized and copied to the device before the clock starts; they take turns. '
             'No augmentation: reading and turning pictures is not measured here',
    seeds="coarse masks are made of the true ones ('coarse-0.6'), beforehand: no weights of CLIP are needed",
    weights='random, batch norm settled on eight drawn pictures; speed is measured with a learning rate of 0, which takes as long',
    episodes_per_s='episodes of a step x steps / seconds on the wall clock, from an idle device to an idle device',
    shares='of that time: between marks around the verbs of the loop; on a card the marks are events in its queue. rest: bookkeeping',
    backbone_share='of that time: the forward pass of the backbone, and of its stages where a system calls one of them by itself',
    features="'kept': the backbone does not run, a copy of the features on the device stands for fetching them from the store",
    peak_gib='torch.cuda.max_memory_allocated of the timed steps, held batches and kept features included; null on a processor',
    tflop='of one step with its backward pass, counted by torch.utils.flop_counter: matrix products and convolutions',
    gb='of one step: what its operations read and write, each for itself, as if no cache held anything',
    matmul_share="tflop per second beside the ceiling 'matmul'",
    copy_share="gb per second beside the ceiling 'copy'; above 1 where caches help",
    matmul='the best of several large matrix products, 2n^3 operations each; of bf16 on a card, whatever --amp is',
    copy='the best of several copies of one large tensor, read and written',
    training='loss: mean over the first and the last tenth of the steps; mIoU in percent on novel classes and, on pictures that '
             'were not trained on, on base classes, fold 0, before and after')


class Bytes(TorchDispatchMode):
    "Adds up what all operations read and write; views are free"
    def __init__(self): super().__init__(); self.total = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        aliases = [r.alias_info for r in func._schema.returns]
        if not any(a is not None and not a.is_write for a in aliases):
            tensors = [t for t in tree_leaves((args, kwargs or {}, out)) if isinstance(t, torch.Tensor)]
            self.total += sum(min(t.nbytes, t.untyped_storage().nbytes()) for t in tensors)
        return out


class Held(TimedLoop):
    "Steps on batches that lie on the device; some warm up, one is counted, the rest is timed"
    warm = 1
    def __init__(self, *args):
        super().__init__(*args)
        self.held, self.turn, self.depth = [], 0, 0
        for part in (self.m.backbone, *self.m.backbone.children()):
            part.register_forward_pre_hook(self.enter); part.register_forward_hook(self.leave)

    def enter(self, *_):
        if not self.depth: self.begun = self.now()
        self.depth += 1

    def leave(self, *_):
        self.depth -= 1
        if not self.depth: self.spans.append(('backbone', self.begun, self.now()))

    def draw(self):
        while len(self.held) < HELD: self.held.append(super().draw())
        self.turn += 1
        drawn = self.held[self.turn % len(self.held)]
        with self.timed('draw'):
            return [(ep, f and tuple({k: t.clone() for k, t in side.items()} for side in f)) for ep, f in drawn]

    def step(self, step):
        if step == self.warm-1:
            with FlopCounterMode(display=False) as flops, Bytes() as moved: super().step(step)
            self.flops, self.bytes = flops.get_total_flops(), moved.total
            return
        if step == self.warm:
            wait(self.acc.device)
            if self.acc.device.type == 'cuda': torch.cuda.reset_peak_memory_stats()
            self.spans.clear()
            self.start = perf_counter()
        super().step(step)
        if step == self.r.steps-1: self.read(); wait(self.acc.device); self.wall = perf_counter()-self.start


def wait(device):
    if torch.device(device).type == 'cuda': torch.cuda.synchronize()


def best(f, device, repeats=20):
    "Seconds of the fastest of several calls"
    f(); times = []
    for _ in range(repeats):
        wait(device); t = perf_counter(); f(); wait(device)
        times.append(perf_counter()-t)
    return min(times)


def ceilings(device, amp):
    "What this machine can do: TFLOP/s of a matrix product, GB/s of a copy"
    cuda = device == 'cuda'
    n, size = (8192, 2**30) if cuda else (1024, 2**26)
    dtype = torch.bfloat16 if cuda or amp == 'bf16' else torch.float32
    a = torch.randn(n, n, device=device, dtype=dtype)
    b, out = a.t().contiguous(), torch.empty_like(a)
    product = best(lambda: torch.mm(a, b, out=out), device)
    src = torch.zeros(size, dtype=torch.uint8, device=device)
    dst = torch.empty_like(src)
    copy = best(lambda: dst.copy_(src), device)
    return dict(matmul_tflops=2*n**3/product/1e12, matmul_size=n, matmul_dtype=str(dtype).removeprefix('torch.'),
                copy_gbs=2*size/copy/1e9, copy_bytes=size)


def machine(device):
    "What all of this ran on"
    more = dict(device=device, threads=torch.get_num_threads())
    if device != 'cuda':
        return dict(**environment(), **more, card=None, driver=None,
                    note='There was no graphics card: this ran on a processor, its numbers say nothing about a card.')
    ask = ['nvidia-smi', '--query-gpu=driver_version', '--format=csv,noheader']
    try: driver = subprocess.run(ask, capture_output=True, text=True, check=True).stdout.split()[0]
    except (OSError, subprocess.CalledProcessError, IndexError): driver = None
    return dict(**environment(), **more, card=torch.cuda.get_device_name(), driver=driver, cuda=torch.version.cuda,
                cudnn=torch.backends.cudnn.version(), memory_gib=rounded(torch.cuda.mem_get_info()[1]/2**30))


def rounded(x): return x if x is None else float(f'{x:.4g}')


def changed(r, a, **more):
    "The recipe with what the command line says, and nothing that has to be downloaded"
    more = dict(amp=None if a.amp == 'none' else a.amp, seeds=r.seeds and 'coarse-0.6', **more)
    for k in ('size', 'batch', 'backbone'):
        if getattr(a, k) is not None: more.setdefault(k, getattr(a, k))
    return recipe(r, **more)


def about(r):
    keep = ('backbone', 'size', 'batch', 'amp', 'optimiser', 'options')
    return dict(system=r.system, recipe=r.name, **{k: getattr(r, k) for k in keep})


def make(r, b):
    "The model of a recipe; random weights with the statistics that batch norm would have found on some pictures"
    torch.manual_seed(r.seed)
    m = create_model(r.system, r.backbone, r.pretrained or False, **r.options)
    norms = [x for x in m.backbone.modules() if isinstance(x, torch.nn.BatchNorm2d) and not r.pretrained]
    for x in norms: x.momentum, x.training = None, True                       # None: the mean of what comes
    if norms:
        with torch.no_grad(): m.backbone(torch.stack([to_image(b.image(i)) for i in b.ids('train')[:8]]))
    for x in norms: x.momentum = .1
    return m.eval()


def speed(r, b, a, top, keep):
    "The row of one system"
    made, Held.warm = [], max(2, a.steps//10)
    r = recipe(r, steps=Held.warm+a.steps)
    m = make(r, b)
    with tempfile.TemporaryDirectory() as tmp:
        fit(m, b, r, out=tmp, device=a.device, progress=False, features='device' if keep else None, feature_bytes=2**40,
            save_every=r.steps, loop=lambda *args: made.append(Held(*args)) or made[0])
    x, t = made[0], made[0].seconds()
    shares = {k: t[k]/x.wall for k in VERBS}
    per_s = a.steps/x.wall
    peak = torch.cuda.max_memory_allocated()/2**30 if a.device == 'cuda' else None
    numbers = dict(episodes_per_s=r.batch*per_s, step_ms=1e3/per_s, backbone_share=t.get('backbone', 0.)/x.wall, peak_gib=peak,
                   tflop=x.flops/1e12, gb=x.bytes/1e9, matmul_share=x.flops*per_s/1e12/top['matmul_tflops'],
                   copy_share=x.bytes*per_s/1e9/top['copy_gbs'])
    return dict(backbone_trained=not m.frozen, steps=a.steps, warm_up=Held.warm, **{k: rounded(v) for k, v in numbers.items()},
                shares={k: rounded(v) for k, v in {**shares, 'rest': max(0., 1-sum(shares.values()))}.items()})


def train(r, b, a):
    "The row of one short training"
    base, split = b.held_out(0)
    ps = [fss.protocol('even', b, size=r.size, episodes=a.episodes),
          fss.protocol('even', b, size=r.size, episodes=a.episodes, classes=base, split=split)]
    change, m = r.seeds and seeder(r.seeds, b), make(r, b)
    ask = lambda: dict(zip(('novel', 'base'), (rounded(100*x.miou) for x in evaluate(
        m, b, ps, device=a.device, progress=False, change=change, batch_size=4))))
    before = ask()
    with tempfile.TemporaryDirectory() as tmp:
        start = perf_counter()
        run = fit(m, b, r, out=tmp, device=a.device, progress=False, workers=a.workers, save_every=r.steps)
        seconds, (_, loss) = perf_counter()-start, run.curve('loss')
    n = max(1, len(loss)//10)
    return dict(steps=r.steps, seconds=rounded(seconds), loss_start=rounded(loss[:n].mean()), loss_end=rounded(loss[-n:].mean()),
                miou_before=before, miou_after=ask(), episodes=a.episodes)


def tried(row, f, *args):
    "The row with what `f` found, or with why it found nothing"
    try: row.update(f(*args))
    except (FssError, RuntimeError) as e:
        full = any(isinstance(x, torch.OutOfMemoryError) or 'memory' in str(x) for x in (e, e.__cause__))
        row.update(error=f'{type(e).__name__}: {str(e).splitlines()[0]}', out_of_memory=full)
    gc.collect()
    if torch.cuda.is_available(): torch.cuda.empty_cache()
    return row


def arguments():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('--out', type=Path, default=Path('results/gpu.json'))
    ap.add_argument('--systems', default=','.join(fss.list_models()), help='names with commas between them; all')
    ap.add_argument('--steps', type=int, default=200, help='timed steps; a tenth of them warms up before')
    ap.add_argument('--amp', choices=('none', 'bf16', 'fp16'), help='bf16 on a card, none on a processor')
    ap.add_argument('--size', type=int, help="pixels, instead of the recipes'")
    ap.add_argument('--batch', type=int, help="episodes a step, instead of the recipes'")
    ap.add_argument('--backbone', help="instead of the recipes'")
    ap.add_argument('--device', choices=('cuda', 'cpu'), default='cuda' if torch.cuda.is_available() else 'cpu')
    ap.add_argument('--train', action='store_true', help='also train on toy with the tiny backbone and with ResNet-50')
    ap.add_argument('--train-steps', type=int, default=300)
    ap.add_argument('--episodes', type=int, default=200, help='asked before and after a training, of either kind of classes')
    ap.add_argument('--workers', type=int, help='processes that read episodes of the trainings; 8 for a card, else none')
    a = ap.parse_args()
    a.systems, a.amp = a.systems.split(','), a.amp or ('bf16' if a.device == 'cuda' else 'none')
    a.workers = (8 if a.device == 'cuda' else 0) if a.workers is None else a.workers
    unknown = {*a.systems}-{*fss.list_models()}
    if unknown: ap.error(f"found systems {', '.join(sorted(unknown))}, want some of {', '.join(fss.list_models())}")
    return a


def main():
    a = arguments()
    warnings.filterwarnings('ignore', message='toy, fold 0: found too few training pictures')
    out = dict(machine=machine(a.device), ceilings={k: v if isinstance(v, (str, int)) else rounded(v)
                                                   for k, v in ceilings(a.device, a.amp).items()},
               how=HOW, systems=[], training=[])

    def note(part, row):
        out[part].append(row)
        a.out.parent.mkdir(parents=True, exist_ok=True)
        a.out.write_text(json.dumps(out, indent=1)+'\n', encoding='utf-8')
        print(json.dumps({k: v for k, v in row.items() if k != 'options'}), flush=True)

    for system in a.systems:
        r = changed(find_recipe(system, 'pascal5i'), a, pretrained=None, augment='none', lr=0)
        b = fss.benchmark('toy', size=r.size, n_train=60, n_test=60)
        able = create_model(system, r.backbone, **r.options).cacheable
        for keep in (False, True)[:1+able]:
            row = dict(**about(r), features='kept' if keep else 'encoded anew in each step', cacheable=able)
            note('systems', tried(row, speed, r, b, a, out['ceilings'], keep))
    for backbone, kind, weights in (('tiny', 'toy', 'toy'), ('resnet50', 'pascal5i', None)) if a.train else ():
        b = fss.benchmark('toy', size=a.size or 473, n_train=400, n_test=200)
        for system in a.systems:
            r = changed(find_recipe(system, kind), a, pretrained=weights, backbone=backbone, size=b.size, steps=a.train_steps)
            note('training', tried(about(r), train, r, b, a))
    return int(any('error' in row and not row['out_of_memory'] for row in out['systems']+out['training']))


if __name__ == '__main__':
    sys.exit(main())
