"""Write the published picture lists into the package, in a compact form that people can read.

    python tools/make_lists.py --data FOLDER

FOLDER holds VOC2012-labels.tar (the 12,031 SegmentationClassAug labels) and lists/ (HSNet's lists for PASCAL, COCO and FSS-1000, PFENet's for PASCAL).
Written are, in fss_nb/lists:
    pascal.txt.xz          a line a label: its id and where it comes from (val, train: VOC's own; noval: SBD, in PFENet's list; sbd: the rest)
    pascal_exceptions.txt  the pairs in which HSNet's lists differ from the rule of fss_nb.data.lists
    coco_{train,test}.txt.xz  a line a picture of HSNet's lists: its number less the number before, then its classes from 1 on; train by number, test in the
                           order that all of HSNet's lists follow
    fss1000.txt            a line a class of HSNet's split of FSS-1000, in its order
"""
import argparse
import gzip
import json
import lzma
import shutil
import tempfile
from graphlib import TopologicalSorter
from pathlib import Path

import fss_nb
from fss_nb.data.index import index_of, measure_label, read_label
from fss_nb.data.lists import LARGE_CELLS

OUT = Path(fss_nb.__file__).parent/'lists'


def squeeze(name, lines):
    (OUT/name).write_bytes(lzma.compress(('\n'.join(lines)+'\n').encode(), preset=9 | lzma.PRESET_EXTREME))


def read_labels(tar):
    "The index of all labels, and the ids whose label holds 255"
    rows, void = [], set()
    with tempfile.TemporaryDirectory() as tmp:
        shutil.unpack_archive(tar, tmp)
        for path in sorted(Path(tmp).rglob('*.png')):
            lab = read_label(path)
            rows.append((path.stem, *measure_label(lab, 20, path.name)))
            if (lab == 255).any(): void.add(path.stem)
    return [r[0] for r in rows], index_of(rows), void


def pascal(data):
    "VOC draws a void border around every object and SBD does not, so the labels themselves tell where they come from"
    ids, ix, void = read_labels(data/'VOC2012-labels.tar')
    words = lambda name: (data/'lists'/name).read_text().split()
    val, pfenet = set(words('pfenet_pascal_val.txt')), set(words('pfenet_pascal_train.txt'))
    source = {i: 'val' if i in val else 'train' if i in void else 'noval' if i in pfenet else 'sbd' for i in ids}
    assert {i for i, s in source.items() if s in ('train', 'noval')} == pfenet
    squeeze('pascal.txt.xz', [f'{i} {s}' for i, s in source.items()])
    rule = {(i, c) for i, c, n in zip(ix.image.tolist(), ix.cls.tolist(), ix.cells) if n >= LARGE_CELLS}
    listed = {(l[:-4], int(l[-2:])) for s in ('trn', 'val') for f in range(4) for l in words(f'hsnet_pascal_{s}_fold{f}.txt')}
    lines = [f"{'+' if p in listed else '-'} {p[0]} {p[1]}" for p in sorted(rule ^ listed)]
    (OUT/'pascal_exceptions.txt').write_text('\n'.join(lines)+'\n')
    return {s: list(source.values()).count(s) for s in ('val', 'train', 'noval', 'sbd')}, len(lines)


def coco(data):
    "All folds of a split are slices of one set of pairs, and the lists of all classes follow one order of the pictures"
    folds = json.load(gzip.open(data/'lists/hsnet_coco.json.gz'))
    for split, word in (('train', 'trn'), ('test', 'val')):
        classes, before = {}, {}
        for f in range(4):
            for c, numbers in folds[f'{word}{f}'].items():
                for n in numbers: classes.setdefault(n, set()).add(int(c)+1)
                for a, b in zip([None, *numbers], numbers): before.setdefault(b, set()).update({a} - {None})
        numbers = sorted(classes) if split == 'train' else list(TopologicalSorter(before).static_order())
        squeeze(f'coco_{split}.txt.xz', [' '.join(map(str, (n-last, *sorted(classes[n])))) for last, n in zip([0]+numbers, numbers)])


def fss1000(data):
    lines = [f'{c} {s}' for s, word in (('train', 'trn'), ('val', 'val'), ('test', 'test'))
             for c in (data/f'lists/hsnet_fss1000_{word}.txt').read_text().split()]
    (OUT/'fss1000.txt').write_text('\n'.join(lines)+'\n')


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--data', type=Path, required=True)
    a = parser.parse_args()
    OUT.mkdir(exist_ok=True)
    counts, n = pascal(a.data)
    coco(a.data)
    fss1000(a.data)
    print(counts, f'{n} exceptions')
    for p in sorted(OUT.iterdir()): print(p.name, p.stat().st_size)
