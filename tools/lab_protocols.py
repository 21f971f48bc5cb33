"""The runs behind 91_lab.protocols: one fixed model under every protocol, and under 'even' with one choice changed.

    FSS_NB_DATA=FOLDER python tools/lab_protocols.py             writes results/protocols.jsonl
    FSS_NB_DATA=FOLDER python tools/lab_protocols.py --cards     writes results/protocols_pascal5i.md, five protocols on PASCAL-5i side by side

The model is the bundled panet-tiny-toy, which was trained on base classes of fold 0 of toy. It is asked on that fold of toy, and on the small real sets in FOLDER
(VOC2012-mini, coco-mini, fss-mini), there on all classes that have pictures enough, whatever their fold. One line of JSON per data set, setting and number of shots.
"""
import argparse
import json
import os
import platform
import shutil
import subprocess
import tempfile
import warnings
from pathlib import Path

import torch
from tqdm.auto import tqdm

import fss_nb as fss
from fss_nb.data.lists import LARGE_AREA
from fss_nb.data.protocol import protocols, side_by_side
from fss_nb.score.evaluate import difference

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT/'results'/'protocols.jsonl'
SIZE = 128                        # what 'even' squashes photographs to; the changes start from here
CHANGES = {                       # one choice at a time; the last value is what it is compared with
    'size 64': dict(size=64), 'size 192': dict(size=192), 'size 256': dict(size=256),
    'letter-box': dict(geometry='letterbox'), "judged in the picture's own pixels": dict(judged='original'),
    'support void is background': dict(void='background'), 'truth void is background': dict(test_void='background'),
    'false alarms skipped': dict(absent='skip'), 'votes': dict(k_shot='vote'),
    'supports: boxes': dict(annotation='box'), 'supports: scribbles': dict(annotation='scribble'), 'supports: points': dict(annotation='point'),
    'overlaps: the last on top': dict(overlap='last'),
    "list 'hsnet'": dict(list='hsnet'), "list 'pfenet'": dict(list='pfenet'),
    'uniform class first': dict(draw='class'), 'through the pictures': dict(draw='images'),
    "PANet's draw": dict(draw='panet'), "HSNet's draw": dict(draw='hsnet'),
    **{f'seed {s}': dict(seed=s) for s in (1, 2, 3)}}


def fitting(b, split, shots):
    "Classes that can fill an episode in a split under every list"
    ix = b.index(split)
    return [c for c in range(1, len(b.classes)+1) if ((ix.cls == c) & (ix.area >= LARGE_AREA)).sum() > shots]


def data_sets(episodes):
    "{name: (benchmark, options of every protocol on it)}, for 1 and for 5 shots"
    yield 'toy', 1, fss.benchmark('toy'), dict(episodes=episodes)
    yield 'toy', 5, fss.benchmark('toy'), dict(episodes=episodes)
    for name, benchmark, split in (('VOC-mini', 'pascal5i', 'train'), ('COCO-mini', 'coco20i', 'train'), ('fss-mini', 'fss1000', 'test')):
        for shots in (1, 5):
            b = fss.benchmark(benchmark)
            classes = fitting(b, split, shots)
            if len(classes) > 1: yield name, shots, b, dict(episodes=episodes, split=split, classes=classes)


def jobs(episodes):
    for name, shots, b, options in data_sets(episodes):
        for p in sorted(protocols(), key=lambda p: p != 'even'):     # 'even' first: the others are held against it
            yield name, shots, f"protocol '{p}'", b, p, {**options, 'runs': 1, 'size': b.size if name == 'toy' else SIZE}
        for change, values in CHANGES.items():
            if shots == 1 and 'k_shot' in values or name == 'toy' and {'size', 'geometry', 'judged', 'list'} & set(values): continue
            if 'overlap' in values and not hasattr(b, 'overlap'): continue
            if 'annotation' in values and shots > 1: continue             # skeletons of five supports take most of the time
            yield name, shots, change, b, 'even', {**options, **values}


def cards():
    "From the labels alone; FOLDER holds VOC2012-labels.tar"
    with tempfile.TemporaryDirectory() as tmp:
        shutil.unpack_archive(Path(os.environ['FSS_NB_DATA'])/'VOC2012-labels.tar', f'{tmp}/VOC2012')
        os.environ['FSS_NB_CACHE'] = f'{tmp}/cache'
        b = fss.benchmark('pascal5i', tmp)
        table = side_by_side([fss.protocol(n, b) for n in ('panet', 'pfenet', 'hsnet', 'bam', 'even')])
    OUT.with_name('protocols_pascal5i.md').write_text(table+'\n')


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('--episodes', type=int, default=120)
    ap.add_argument('--sets', nargs='+', default=['toy', 'VOC-mini', 'COCO-mini', 'fss-mini'])
    ap.add_argument('--out', type=Path, default=OUT)
    ap.add_argument('--cards', action='store_true')
    a = ap.parse_args()
    if a.cards: return cards()
    commit = subprocess.run(['git', 'describe', '--always', '--dirty', '--abbrev=12'], capture_output=True, text=True, cwd=ROOT).stdout.strip()
    warnings.filterwarnings('ignore', message='.*found no object')
    m, even, lines = fss.load('panet-tiny-toy'), {}, []
    for name, shots, setting, b, preset, options in tqdm([j for j in jobs(a.episodes) if j[0] in a.sets], desc='settings'):
        line = dict(data=name, shots=shots, setting=setting, commit=commit, torch=torch.__version__, machine=platform.machine())
        try: r = fss.evaluate(m, b, fss.protocol(preset, b, shots=shots, **options), progress=False)
        except fss.FssError as e: line['refused'] = str(e)
        else:
            if setting == "protocol 'even'": even[name, shots] = r
            line.update(r.to_dict())
            base = even.get((name, shots))
            if base is not None and base.manifest_sha256 == r.manifest_sha256: line['against_even'] = list(difference(r, base))
        lines.append(json.dumps(line)+'\n')
    a.out.write_text(''.join(lines))


if __name__ == '__main__': main()
