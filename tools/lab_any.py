"""The runs behind 99_lab.any: every model on three small sets of real pictures, how good and how fast.

    FSS_NB_DATA=FOLDER python tools/lab_any.py                         rivals that need no training, and all bundled models
    ... --models any-tiny any-tiny=runs/second any-tiny=runs/third     these; NAME=FILE is another seed of NAME
    ... --models 'crcnet-procedural, finetuned=runs/NAME'              learning from the support of each episode, as CRCNet does
    ... --models rivals any-tiny --only 'fss-mini, 128 px'             what is called so
    ... --only speed                                                   times alone, or `score`
    ... --quick                                                        four episodes of each, marked as such

Appends a line of JSON with the score, and one with the speed, per data set, size, shots, model, seed and weights to results/any.jsonl,
as soon as it is known. What the file holds is not measured again (`--again` does). So the file is also the log of looks at real
pictures: each line says when, at which commit, which weights. Never delete a line of it.

Every object is asked once, with the K pictures of its class that come first in an order drawn for this episode: protocol 'even'. The
same objects are asked at all sizes: those that cover 4 pixels at 128. In fss-mini a class with K pictures or fewer lends all its
others as supports ('supports' in the line); in the other sets it is left out. Speed is measured in a fresh process with so many cores
and threads as `--threads` says, in turns with the pixel forest, on ten questions, since a forest's time is another one on every picture.
Each is asked three times and its shortest time counts, since other work on the machine can only add; a line holds the means over the
questions.
"""
import argparse
import hashlib
import json
import os
import platform
import subprocess
import sys
import time
import warnings
from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from statistics import mean
from unittest.mock import patch

import torch
from tqdm.auto import tqdm

import fss_nb as fss
from fss_nb.core import one_of
from fss_nb.data.episodes import EpisodeDataset
from fss_nb.features.backbone import bundled_weights
from fss_nb.papers.baselines import AllForeground, ColourHistogram, PixelForest, RGBPrototypes
from fss_nb.papers.zoo import bundled_models
from fss_nb.score.intervals import Interval, bootstrap
from fss_nb.score.metrics import fbiou_from, miou_from
from lab_protocols import ROOT, SIZE, fitting

DATA = {'fss-mini': ('fss1000', 'test'), 'VOC2012-mini': ('pascal5i', 'train'), 'coco-mini': ('coco20i', 'train')}
BASELINES = {c.name: c for c in (AllForeground, RGBPrototypes, ColourHistogram, PixelForest)}
RESNET = 'ResNet-50, ImageNet, prototypes'
PROTOTYPES = {'random weights, prototypes': dict(backbone='tiny'), 'toy-trained, prototypes': dict(backbone='tiny', pretrained='toy'),
              RESNET: dict(backbone='resnet50', pretrained='imagenet')}
RIVALS = [(name, s) for name in (*BASELINES, *PROTOTYPES) for s in (range(3) if name.startswith('random') else (0,))]


@dataclass(frozen=True)
class Asked:
    "A model to measure: small enough to be sent to another process"
    model: str              # its name in the tables
    seed: int
    source: str = None      # of `fss.load`; None: one of the rivals

    def make(self):
        torch.manual_seed(self.seed)
        if self.source: return fss.load(self.source, **({'k_shot': 'finetune'} if self.model.endswith(', finetuned') else {}))
        if self.model in BASELINES: return BASELINES[self.model]()
        return fss.create_model('panet', **PROTOTYPES[self.model])

    @property
    def weights(self): # what tells these weights from others
        if self.source is None and 'toy' not in self.model:
            return 'ImageNet' if self.model == RESNET else 'drawn' if self.model in PROTOTYPES else 'none'
        path = Path(self.source or bundled_weights('tiny-toy'))
        path = path/'model.safetensors' if path.is_dir() else path if path.suffix else bundled_weights(str(path))
        return hashlib.sha256(path.read_bytes()).hexdigest()[:12]

    def missing(self): # why it cannot be measured, or None; nothing is fetched
        if self.model != RESNET: return None
        from torchvision.models import ResNet50_Weights
        file = ResNet50_Weights.IMAGENET1K_V1.url.split('/')[-1]
        here = Path(torch.hub.get_dir())/'checkpoints'/file
        return None if here.is_file() else f'ImageNet weights are not cached: no {file} in the folder checkpoints of torch.hub.get_dir()'


def models(words):
    "The models that the words name"
    out = []
    for word in words:
        name, _, file = word.rpartition('=')
        if word == 'rivals': out += [Asked(*r) for r in RIVALS]
        elif word in dict(RIVALS): out += [Asked(*r) for r in RIVALS if r[0] == word]
        else:
            is_file = Path(file).is_dir() or Path(file).suffix == '.safetensors'
            card = fss.load(file if is_file else one_of(file, bundled_models(), 'model')).card
            name = name or (card.get('recipe') or Path(file).stem if is_file else file)
            out.append(Asked(name, card.get('seed', 0), file))
    return out


def questions(b, split, size, shots, episodes=None):
    "Protocols that ask every object once, one for each number of supports"
    how = dict(split=split, size=size, min_seen=round(4*max(1, size/SIZE)**2), episodes=episodes)
    if b.name != 'fss1000': return [fss.protocol('even', b, shots=shots, classes=fitting(b, split, shots), **how)]
    pictures = Counter(c for _, c in fss.protocol('even', b, **{**how, 'episodes': None}).test_pairs)
    supports = {c: min(shots, n-1) for c, n in pictures.items()}
    return [fss.protocol('even', b, shots=k, classes=[c for c in supports if supports[c] == k], **how)
            for k in sorted({*supports.values()}, reverse=True)]


def joined(reports):
    "(E,1,C+1,2) counts of all reports over all their classes, the E queries, the C class ids"
    classes = sorted(c for r in reports for c in r.protocol['classes'])
    tables = []
    for r in reports:
        t = r.counts.new_zeros(len(r.counts), 1, len(classes)+1, 2)
        t[:, :, [0, *(1+classes.index(c) for c in r.protocol['classes'])]] = r.counts
        tables.append(t)
    return torch.cat(tables), sum((r.clusters for r in reports), ()), classes


def interval(counts, queries, stat):
    "The statistic with its 95 % interval; 0..1 where there is one picture only"
    if len({*queries}) > 1: return bootstrap(counts, queries, stat)
    return Interval(stat(counts.sum(0).double()).mean().item(), 0., 1.)


def score(m, b, split, ps):
    "What a line says of right and wrong, and the counts that it follows from"
    counts, queries, classes = joined(fss.evaluate(m, b, ps, progress=False, cache_bytes=2**30))
    ix, names = b.index(split), {c: b.classes[c-1] for c in classes}
    column = counts[:, 0, 1:, 1].argmax(1)                                 # one way: each episode has one class
    per_class, about = {}, {}
    for k, c in enumerate(classes):
        own, rows = column == k, ix.cls == c
        iou = lambda s, k=k: s[..., k+1, 0]/s[..., k+1, 1].clamp_min(1)
        per_class[names[c]] = interval(counts[own], [q for q, o in zip(queries, own) if o], iou)
        about[names[c]] = dict(episodes=int(own.sum()), supports=next(p.shots for p in ps if c in p.classes),
                               area=round(float((ix.area[rows]/(ix.height*ix.width)[rows]).mean()), 5))      # share of the picture
    miou, fbiou = (interval(counts, queries, stat) for stat in (miou_from, fbiou_from))
    place = {q: i for i, q in enumerate(dict.fromkeys(queries))}
    kept = [[int(k)+1, *counts[e, 0, k+1].tolist(), *counts[e, 0, 0].tolist(), place[q]] for e, (k, q) in enumerate(zip(column, queries))]
    asked = [{k: p.to_dict()[k] for k in ('shots', 'classes', 'split', 'size', 'min_seen', 'episodes')} for p in ps]     # of `fss.protocol('even', ...)`
    short = lambda values: [round(v, 5) for v in values]
    return dict(miou=round(miou.value, 5), ci=short(miou[1:]), fbiou=round(fbiou.value, 5), fbiou_ci=short(fbiou[1:]),
                per_class={c: short(v) for c, v in per_class.items()}, classes=about, episodes=len(counts), asked=asked,
                protocol_sha256=[p.sha256 for p in ps], manifest_sha256=[p.manifest().sha256 for p in ps],
                counts=kept)          # of each episode: class, intersection and union of it, of the background, number of the query


def peak():
    "MiB that this process has needed at most, None where the system does not say"
    try: return next(int(s.split()[1]) for s in open('/proc/self/status') if s.startswith('VmHWM'))/1024
    except (OSError, StopIteration): return None


def timed(f, *args):
    "What f returns, wall seconds, processor seconds of all threads"
    wall, cpu = time.perf_counter(), time.process_time()
    out = f(*args)
    return out, time.perf_counter()-wall, time.process_time()-cpu


@torch.inference_mode()
def one_query(m, ep):
    "Seconds to encode a query and to answer it, its supports being encoded already: wall, then processor"
    f_s = m.encode(ep.support_imgs)
    f_q, encode, e_cpu = timed(m.encode, ep.query_img)
    fits, forest = [], isinstance(m, PixelForest)
    if forest:
        from sklearn.ensemble import RandomForestClassifier as Forest
        fit = Forest.fit
        def watched(*args):
            out, wall, _ = timed(fit, *args); fits.append(wall)
            return out
        with patch.object(Forest, 'fit', watched): _, decode, d_cpu = timed(m.decode, f_q, f_s, ep.support_masks, ep.size)
    else: _, decode, d_cpu = timed(lambda: m.decode(f_q, f_s, ep.support_masks, ep.size).argmax(1))
    return dict(encode=encode, decode=decode, picture=encode+decode, cpu=e_cpu+d_cpu, **({'fit': sum(fits)} if forest else {}))


@torch.inference_mode()
def first_mask(m, ep): return m.decode(m.encode(ep.query_img), m.encode(ep.support_imgs), ep.support_masks, ep.size).argmax(1)


def speed(asked, data, size, shots, threads, asks, turns):
    "In a process of its own: seconds and memory of a model, and of the forest in turns with it"
    if hasattr(os, 'sched_setaffinity'): os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    torch.set_num_threads(threads)
    warnings.simplefilter('ignore')
    b = fss.benchmark(DATA[data][0])
    p = questions(b, DATA[data][1], size, shots)[0]
    some = EpisodeDataset(b, p, p.manifest().rows[:asks], truth_void=p.test_void)                # they are in no order
    eps = [some[i] for i in range(asks)]
    empty, (m, load, _) = peak(), timed(lambda: asked.make().folded())                # as the Segmenter does
    _, cold, _ = timed(first_mask, m, eps[0])
    needed = peak() and round(peak()-empty)
    forest = None if isinstance(m, PixelForest) else PixelForest()
    try: forest and first_mask(forest, eps[0])
    except fss.FssError: forest = None
    rounds = [[(one_query(m, ep), forest and one_query(forest, ep)) for _ in range(turns)] for ep in eps]
    def means(who): # of every question its shortest time
        short = [min((t[who] for t in r), key=lambda x: x['picture']) for r in rounds]
        return {k: round(mean(x[k] for x in short), 5) for k in short[0]}
    return dict(seconds=dict(load=round(load, 4), first_mask=round(cold, 4), **means(0)), forest_seconds=means(1) if forest else None,
                memory_mib=needed, empty_mib=empty and round(empty), threads=threads, asks=asks, turns=turns, busy=round(os.getloadavg()[0], 1))


def main(args=None):
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('--models', nargs='+', default=['rivals', *bundled_models()], help="'rivals' is all that need no training")
    ap.add_argument('--data', nargs='+', default=list(DATA), choices=DATA)
    ap.add_argument('--sizes', nargs='+', type=int, default=[128, 256])
    ap.add_argument('--shots', nargs='+', type=int, default=[1, 5])
    ap.add_argument('--only', default='', help="what all must be in 'fss-mini, 128 px, 1-shot, any-tiny, seed 0, score', with commas between")
    ap.add_argument('--quick', action='store_true', help='four episodes')
    ap.add_argument('--again', action='store_true', help='measure what the file holds already')
    ap.add_argument('--speed', nargs='*', default=['fss-mini'], choices=DATA, help='where speed is measured too; pictures of one size take the same time')
    ap.add_argument('--threads', type=int, default=2, help='and cores, for speed')
    ap.add_argument('--out', type=Path, default=ROOT/'results'/'any.jsonl')
    a = ap.parse_args(args)
    torch.set_num_threads(a.threads)
    warnings.filterwarnings('ignore', message='.*found no object')
    commit = subprocess.run(['git', 'describe', '--always', '--dirty', '--abbrev=12'], capture_output=True, text=True, cwd=ROOT).stdout.strip()
    now = lambda: datetime.now(timezone.utc).isoformat(timespec='seconds')
    about = dict(run=now(), commit=commit, torch=torch.__version__, machine=platform.machine(), cores=os.cpu_count())
    key = lambda line: tuple(line[k] for k in ('data', 'size', 'shots', 'model', 'seed', 'weights', 'quick', 'what'))
    held = [{'what': 'score', **json.loads(text)} for text in a.out.read_text().splitlines()] if a.out.exists() else []
    done, told = ({key(x) for x in held if ('refused' in x) == no} for no in (False, True))
    for data, size, shots, asked, what in tqdm([*jobs(a)], desc='any', disable=None):
        line = dict(what=what, data=data, size=size, shots=shots, model=asked.model, seed=asked.seed, weights=asked.weights, quick=a.quick)
        if key(line) in done and not a.again: continue
        line |= dict(date=now(), **about)
        try: line |= measured(asked, data, size, shots, what, a)
        except fss.FssError as e:
            if key(line) in told: continue
            line['refused'] = str(e)
        with a.out.open('a') as f: f.write(json.dumps(line, separators=(',', ':'))+'\n')


def jobs(a):
    "(data set, size, shots, model, score or speed) of all that is asked"
    wanted, known = [w.strip() for w in a.only.split(',') if w.strip()], models(a.models)
    for data in a.data:
        for size in a.sizes:
            for shots in a.shots:
                for m, what in product(known, ('score', 'speed') if data in a.speed else ('score',)):
                    label = [data, f'{size} px', f'{shots}-shot', m.model, f'seed {m.seed}', what]
                    if all(any(w in part for part in label) for w in wanted): yield data, size, shots, m, what


def measured(asked, data, size, shots, what, a):
    "The part of a line that is measured"
    if asked.missing(): raise fss.FssError(asked.missing())
    if what == 'speed': return alone(speed, asked, data, size, shots, a.threads, *((2, 1) if a.quick else (10, 3)))
    b, m = fss.benchmark(DATA[data][0]), asked.make()
    return dict(card=m.card, **score(m, b, DATA[data][1], questions(b, DATA[data][1], size, shots, 4 if a.quick else None)))


def alone(f, *args):
    "What f returns in a fresh process"
    with get_context('spawn').Pool(1) as fresh: return fresh.apply(f, args)


if __name__ == '__main__': main(sys.argv[1:])
