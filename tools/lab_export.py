"""The table of 84_use.export: every system as torch.export programs and as ONNX files, and how far they are from the model.

    python tools/lab_export.py                       all of the plan below
    python tools/lab_export.py panet ridge           these systems only
    python tools/lab_export.py --quick               the smallest of them

Writes a line of JSON a program into results/export.jsonl, sorted as in the plan; lines of systems that are not measured now are
kept. Each case runs in a process of its own, for onnxruntime has been seen to end a process. A gap is the largest difference from
the model in PyTorch over three drawn episodes, of features for `encode`, of logits for `decode`; the share is the gap divided by
the largest logit. What failed says why in 'reason'. Cases with any number of shots are written as ONNX only where the package has
weights.
"""
import argparse
import json
import subprocess
import sys
import time
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

import fss_nb as fss
from fss_nb.core import FssError
from fss_nb.use.export import Exported, export_gap, export_onnx, export_programs

ROOT = Path(__file__).resolve().parents[1]
OUT, SIZE, SEEDS = ROOT/'results'/'export.jsonl', 64, (1, 2, 3)
WEIGHTS = {'ridge': 'any-tiny', 'panet': 'panet-tiny-toy'}
TINY = [(name, WEIGHTS.get(name, 'tiny'), 1, 1, SIZE, {}) for name in fss.list_models()]
MORE = [(name, WEIGHTS.get(name, 'tiny'), 1, None, SIZE, {}) for name in fss.list_models()]     # any number of shots
PLAN = [*TINY, *MORE, ('panet', 'panet-tiny-toy', 2, 3, SIZE, {}), ('hsnet', 'tiny', 1, 2, SIZE, {}),
        ('crcnet', 'tiny', 1, 2, SIZE, {'k_shot': 'finetune'}), ('panet', 'resnet50', 1, 1, 96, {}), ('pfenet', 'resnet50', 1, 1, 96, {})]


def model(name, weights, options):
    torch.manual_seed(0)
    if weights in WEIGHTS.values(): return fss.load(weights, **options)
    return fss.create_model(name, weights, pretrained='toy' if weights == 'tiny' else False, **options)


def programs_gap(m, programs, ep):
    "Gap and largest value of both programs of torch.export"
    encode, decode = (programs[k].module() for k in ('encode', 'decode'))
    with torch.no_grad():
        true, z = m.encode(ep.query_img), m(ep)
        f_q = encode(ep.query_img)
        f_s = {k: f.unflatten(0, ep.support_masks.shape[:3]) for k, f in encode(ep.support_imgs.flatten(0, 2)).items()}
        got = decode(f_q, f_s, ep.support_masks)
    far = lambda a, b: (a-b).abs().max().item()
    return dict(features=max(far(f_q[k], v) for k, v in true.items()), logits=far(got, z), largest=z.abs().max().item(),
                probability=far(got.softmax(1), z.softmax(1)))


def saved(program): # -> bytes
    torch.export.save(program, file := BytesIO())
    return len(file.getvalue())


def lines(case):
    "The four lines of a case"
    name, weights, ways, shots, size, options = case
    m = model(name, weights, options)
    about = dict(system=name, backbone=m.backbone_name, weights=weights, ways=ways, shots=shots, size=size, options=options)
    episodes = [fss.toy_episode(seed=s, ways=ways, shots=shots or 2+s % 2, size=size) for s in SEEDS]

    def each(way, gaps, sizes, seconds, nodes):
        for part in ('encode', 'decode'):
            worst = {k: max(g[k] for g in gaps) for k in gaps[0]}
            gap = worst['features' if part == 'encode' else 'logits']
            share = {} if part == 'encode' else dict(share=gap/worst['largest'], probability=worst['probability'])
            yield dict(about, part=part, way=way, ok=gap <= 1e-3, gap=gap, **share, bytes=sizes[part],
                       seconds=round(seconds, 1), nodes=nodes[part], reason='' if gap <= 1e-3 else f'{gap:.1e} away')

    def failed(way, e):
        for part in ('encode', 'decode'):
            if part == 'encode' and isinstance(e, FssError) and 'encode of' not in str(e): continue     # the decoder's fault
            yield dict(about, part=part, way=way, ok=False, gap=None, bytes=None, reason=str(e)[:300])

    start = time.process_time()
    try:
        programs = export_programs(m, ways, shots, size)
        gaps = [programs_gap(m, programs, ep) for ep in episodes]
    except FssError as e: return list(failed('torch.export', e))                 # without it no ONNX, either
    nodes = {k: len(p.graph.nodes) for k, p in programs.items()}
    sizes = {k: saved(p) for k, p in programs.items()}
    out = list(each('torch.export', gaps, sizes, time.process_time()-start, nodes))
    if shots is None and name not in WEIGHTS: return out
    start = time.process_time()
    with TemporaryDirectory() as tmp:
        try: files = Exported(export_onnx(m, tmp, ways, shots, size))
        except Exception as e: return out+list(failed('onnx', f'{type(e).__name__}: {str(e).strip().splitlines()[-1]}'))
        sizes = {p: sum(f.stat().st_size for f in Path(tmp).glob(f'{p}.onnx*')) for p in ('encode', 'decode')}
        seconds = time.process_time()-start
        return out+list(each('onnx', [export_gap(m, files, ep) for ep in episodes], sizes, seconds, nodes))


def key(l): return (l['system'], l['weights'], l['ways'], l['shots'], l['size'], json.dumps(l['options']), l['part'], l['way'])


def write(new):
    "Into the file, in the order of the plan"
    old = [json.loads(l) for l in OUT.read_text().splitlines()] if OUT.exists() else []
    cases = [(*c[:5], json.dumps(c[5])) for c in PLAN]
    kept = {key(l): l for l in [*old, *new] if key(l)[:6] in cases}
    lost = {key(l)[:6] for l in new}
    kept = {k: l for k, l in kept.items() if k[:6] not in lost or l in new}
    order = lambda k: (cases.index(k[:6]), k[7] == 'onnx', k[6] == 'decode')
    OUT.write_text('\n'.join(json.dumps(kept[k]) for k in sorted(kept, key=order))+'\n')


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('systems', nargs='*'); parser.add_argument('--quick', action='store_true')
    parser.add_argument('--missing', action='store_true', help='only what the file does not have')
    parser.add_argument('--case', type=int, help='one line of the plan, printed as JSON')
    a = parser.parse_args()
    if a.case is not None: return print(json.dumps(lines(PLAN[a.case])))
    have = {key(json.loads(l))[:6] for l in OUT.read_text().splitlines()} if a.missing and OUT.exists() else set()
    for i, c in enumerate(PLAN):
        if a.systems and c[0] not in a.systems or a.quick and i != 8 or (*c[:5], json.dumps(c[5])) in have: continue
        done = subprocess.run([sys.executable, __file__, '--case', str(i)], capture_output=True, text=True)
        if done.returncode: print(c, 'died with', done.returncode, done.stderr[-500:], flush=True); continue
        new = json.loads(done.stdout.splitlines()[-1])
        write(new)
        for l in new: print({k: l[k] for k in ('system', 'backbone', 'ways', 'shots', 'part', 'way', 'ok', 'gap', 'reason')}, flush=True)


if __name__ == '__main__': main()
