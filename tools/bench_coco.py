"""How long the index of a COCO-sized JSON file takes, and how much memory: the first time and from disk.

    python tools/bench_coco.py [--images 120000] [--annotations 900000]      prints one line of JSON

The file is made up in a temporary folder: outlines of 20 corners, 46 % of them smaller than 32x32 pixels and 23 % larger than 96x96,
much as in COCO, one to five classes a picture, one crowd in a hundred as runs. The first start reads it in a
process of its own, the second start finds the kept table in another one; seconds are those of the reader alone, without imports.
"""
import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

H, W, CORNERS = 480, 640, 20
READ = '''
import json, sys, time
from fss_nb.data.coco import Coco20i
import pycocotools.mask
start = time.perf_counter()
b = Coco20i(sys.argv[1]); ix = b.index('train')
seconds = time.perf_counter()-start
i, c = ix.pairs()[len(ix)//2]; b.mask(i, c); start = time.perf_counter()
pixels = int(b.mask(i, c).sum()); mask = time.perf_counter()-start
assert pixels == ix.area[len(ix)//2]
peak = next(1024*int(s.split()[1]) for s in open('/proc/self/status') if s.startswith('VmHWM'))     # of this process alone
print(json.dumps(dict(seconds=round(seconds, 2), peak_gib=round(peak/2**30, 2), rows=len(ix), mask_ms=round(1000*mask, 2))))
'''


def outlines(g, n):
    "n polygons of CORNERS corners, of the sizes that COCO's things have"
    angle = np.sort(g.random((n, CORNERS)), 1)*2*np.pi
    r = np.exp(g.uniform(np.log(4), np.log(160), (n, 1)))*g.uniform(.6, 1.2, (n, CORNERS))
    x, y = g.uniform(0, W, (n, 1))+r*np.cos(angle), g.uniform(0, H, (n, 1))+r*np.sin(angle)
    return np.stack([x.clip(0, W), y.clip(0, H)], -1).round(2).reshape(n, -1)


def runs(g):
    "A crowd as plain runs: stripes of random length"
    ends = np.unique(g.integers(1, H*W, 400))
    return dict(counts=np.diff([0, *ends, H*W]).tolist(), size=[H, W])


def write(path, images, annotations, ids, names, block=10_000):
    g = np.random.default_rng(0)
    file = 'COCO_train2014_{:012d}.jpg'
    pool, size = np.array(ids)[(len(ids)*g.random((images, 5))**2).astype(int)], g.integers(1, 6, images)   # classes of each picture
    with open(path, 'w') as f:
        entry = lambda n: dict(license=1, file_name=file.format(n), coco_url='http://images.cocodataset.org/train2014/'+file.format(n),
                               height=H, width=W, date_captured='2013-11-14 16:28:13', id=n)
        f.write('{"info": {}, "images": ['+', '.join(json.dumps(entry(n)) for n in range(1, images+1))+'], "annotations": [')
        for first in range(0, annotations, block):
            n = min(block, annotations-first)
            polys, pics = outlines(g, n).tolist(), g.integers(1, images+1, n).tolist()
            cats = pool[np.array(pics)-1, (g.random(n)*size[np.array(pics)-1]).astype(int)].tolist()
            crowd = (g.random(n) < .01).tolist()
            f.write(', '*(first > 0)+', '.join(json.dumps(dict(
                segmentation=runs(g) if crowd[k] else [polys[k]], area=1234.5678, iscrowd=int(crowd[k]), image_id=pics[k],
                bbox=[473.07, 395.93, 38.65, 28.67], category_id=cats[k], id=first+k)) for k in range(n)))
        f.write('], "categories": '+json.dumps([dict(id=i, name=n) for i, n in zip(ids, names)])+'}')


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('--images', type=int, default=120_000)
    ap.add_argument('--annotations', type=int, default=900_000)
    a = ap.parse_args()
    from fss_nb.data.coco import COCO_CLASSES, COCO_IDS
    with tempfile.TemporaryDirectory() as tmp:
        notes = Path(tmp)/'annotations'
        notes.mkdir()
        write(notes/'instances_train2014.json', a.images, a.annotations, COCO_IDS, COCO_CLASSES)
        write(notes/'instances_val2014.json', 1, 1, COCO_IDS, COCO_CLASSES)
        env = {**os.environ, 'FSS_NB_CACHE': str(Path(tmp)/'cache'), 'OMP_NUM_THREADS': '1'}
        read = lambda: json.loads(subprocess.run([sys.executable, '-c', READ, tmp], env=env, check=True, stdout=subprocess.PIPE).stdout)
        first, second = read(), read()
        kept = sum(p.stat().st_size for p in (Path(tmp)/'cache').iterdir())
        size = (notes/'instances_train2014.json').stat().st_size
        print(json.dumps(dict(images=a.images, annotations=a.annotations, json_mb=round(size/1e6),
                              first=first, second=second, kept_mb=round(kept/1e6), cores_used=1,
                              python=platform.python_version(), machine=platform.machine())))


if __name__ == '__main__':
    main()
