"""Make the weights that ship inside the package, and write down how well they do.

    python tools/make_weights.py tiny-toy         the tiny backbone, on the eighty proxy classes
    python tools/make_weights.py panet-tiny-toy   PANet on fold 0 of the toy benchmark, on top of it
    python tools/make_weights.py clip-tiny-toy    the stand-in for CLIP: its pool and its twenty words, on top of the tiny backbone
    python tools/make_weights.py any-tiny         ridge on drawn episodes, for pictures that nobody knows yet; some two hours on two cores

All are reproducible: same code, same seed, same threads, same weights. The card in each file's header says how it was made.
"""
import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

import fss_nb as fss
from fss_nb.core import to_image
from fss_nb.data.toy import PROXY_CLASSES, proxy_scene
from fss_nb.features.clip import train_tiny_clip
from fss_nb.papers.system import save_weights
from fss_nb.report.results import trained_model
from fss_nb.train.pretrain import pretrain_tiny, proxy_accuracy

WEIGHTS = Path(fss.__file__).parent/'weights'


def commit():
    out = subprocess.run(['git', 'describe', '--always', '--dirty', '--abbrev=12'], capture_output=True, text=True, cwd=WEIGHTS.parent)
    return out.stdout.strip() or 'unknown'


def tiny_toy(a):
    made_by, start = commit(), time.perf_counter()
    net, head, history = pretrain_tiny(a.steps, seed=a.seed, workers=a.workers, device=a.device, amp=a.amp)
    card = dict(recipe='fss_nb.train.pretrain.pretrain_tiny', steps=a.steps, batch=32, seed=a.seed, size=[96, 96], amp=a.amp, commit=made_by,
                classes='80 toy proxies', minutes=round((time.perf_counter()-start)/60, 1), proxy_accuracy=round(proxy_accuracy(net.cpu(), head.cpu()), 3))
    state = {k: v.half() if v.is_floating_point() else v for k, v in net.state_dict().items()}
    save_file(state, str(WEIGHTS/'tiny-toy.safetensors'), metadata={'card': json.dumps(card)})
    print(json.dumps(card, indent=1))


def panet_tiny_toy(a):
    made_by = commit()
    b = fss.benchmark('toy')
    m = fss.create_model('panet', backbone='tiny', pretrained='toy')
    fss.fit(m, b, recipe='panet-toy', fold=0, seed=a.seed, device=a.device)
    m.cpu().eval()
    m.card = dict(recipe='panet-toy', fold=0, seed=a.seed, size=[96, 96], commit=made_by, benchmark='toy', **measure(m, b))
    save_weights(m, WEIGHTS/'panet-tiny-toy.safetensors', half=True)
    print(json.dumps(m.card, indent=1))


def clip_tiny_toy(a):
    made_by, start = commit(), time.perf_counter()
    clip, _ = train_tiny_clip(seed=a.seed)
    card = dict(recipe='fss_nb.features.clip.train_tiny_clip', seed=a.seed, size=[96, 96], commit=made_by, backbone='tiny-toy',
                classes='80 toy proxies, lists only', minutes=round((time.perf_counter()-start)/60, 1), best_name_is_there=named(clip))
    state = {k: v.half() for k, v in clip.state_dict().items() if not k.startswith('backbone.')}
    save_file(state, str(WEIGHTS/'clip-tiny-toy.safetensors'), metadata={'card': json.dumps(card)})
    print(json.dumps(card, indent=1))


def any_tiny(a):
    how = {'resume': a.resume} if a.resume else {'recipe': a.recipe, 'seed': a.seed}
    run = fss.fit(**how, out=a.out or 'runs', device=a.device, workers=1, channels_last=True)
    m, b = trained_model(run).cpu(), fss.benchmark('procedural')
    for k in (1, 5):
        r = fss.evaluate(m, b, fss.protocol('drawn', b, shots=k))
        m.card.update({f'miou_{k}shot': round(r.miou, 4), f'ci_{k}shot': [round(float(v), 4) for v in r.ci]})
    m.card.update(measured_on=f"{r.episodes} drawn test episodes", hours=round(run.hours, 2), seen='drawn episodes alone, no photograph', licence='Apache-2.0')
    path = Path(a.save) if a.save else WEIGHTS/'any-tiny.safetensors'
    save_weights(m, path, half=True)
    print(path, json.dumps(m.card, indent=1))


@torch.inference_mode()
def named(clip, scenes=500):
    "Share of held-out proxy scenes that show the thing which, of all eighty, they are said to resemble most"
    t, hits = clip.text(PROXY_CLASSES), 0
    for i in range(scenes):
        pic, lab = proxy_scene(1, i)
        best = (clip.pool(clip.trunk(clip.prepare(to_image(pic[None])))) @ t.T).argmax().item()
        hits += bool(np.isin(best+1, lab))
    return round(hits/scenes, 3)


def measure(m, b):
    "Novel mIoU of fold 0 with its interval, 1- and 5-shot"
    out = {}
    for k in (1, 5):
        r = fss.evaluate(m, b, fss.protocol('even', b, fold=0, shots=k, episodes=1000))
        out[f'miou_{k}shot'] = round(r.miou, 4)
        out[f'ci_{k}shot'] = [round(float(v), 4) for v in r.ci]
    return out


if __name__ == '__main__':
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('what', choices=['tiny-toy', 'panet-tiny-toy', 'clip-tiny-toy', 'any-tiny'])
    ap.add_argument('--steps', type=int, default=6000)
    ap.add_argument('--seed', type=int, default=0)
    ap.add_argument('--workers', type=int, default=1)
    ap.add_argument('--device', default='cpu')
    ap.add_argument('--amp', action='store_true')
    ap.add_argument('--recipe', default='ridge-procedural', help='of any-tiny; ridge-procedural-hour, or ridge-procedural-card for a card')
    ap.add_argument('--out', help='folder of the runs of any-tiny')
    ap.add_argument('--resume', help='a run of any-tiny to take up again')
    ap.add_argument('--save', help='where the weights of any-tiny go instead of into the package')
    a = ap.parse_args()
    torch.set_num_threads(1)  # the sums of one thread are the same everywhere on one kind of machine
    WEIGHTS.mkdir(exist_ok=True)
    makers = {'tiny-toy': tiny_toy, 'panet-tiny-toy': panet_tiny_toy, 'clip-tiny-toy': clip_tiny_toy, 'any-tiny': any_tiny}
    sys.exit(makers[a.what](a))
