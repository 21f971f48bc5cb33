"One COCO folder under protocols that cut its folds and its overlaps differently"
import json

import numpy as np
import pytest
from PIL import Image

import fss_nb as fss
from fss_nb.data.coco import COCO_CLASSES, COCO_IDS

pytest.importorskip('pycocotools')
pytestmark = pytest.mark.filterwarnings('ignore::DeprecationWarning:pycocotools')
PERSON, CAR = 1, 3                      # class ids; interleaved, folds 0 and 2; contiguous, both in fold 0


def box(x, y, w, h): return [[x, y, x+w, y, x+w, y+h, x, y+h]]


@pytest.fixture(scope='module')
def coco(tmp_path_factory):
    "Six pictures a split: a person of 80x80 pixels, and a car that comes later and covers its right half"
    root = tmp_path_factory.mktemp('coco')/'COCO2014'
    (root/'annotations').mkdir(parents=True)
    for part in ('train', 'val'):
        (root/f'{part}2014').mkdir()
        images, notes = [], []
        for n in range(1, 7):
            name = f'COCO_{part}2014_{n:012d}.jpg'
            Image.fromarray(np.full((120, 160, 3), 20*n, np.uint8)).save(root/f'{part}2014'/name)
            images.append(dict(id=n, height=120, width=160, file_name=name))
            for c, seg in ((PERSON, box(20, 20, 80, 80)), (CAR, box(60, 20, 80, 80))):
                notes.append(dict(id=len(notes), image_id=n, category_id=COCO_IDS[c-1], iscrowd=0, segmentation=seg))
        cats = [dict(id=i, name=c) for i, c in zip(COCO_IDS, COCO_CLASSES)]
        (root/f'annotations/instances_{part}2014.json').write_text(json.dumps(dict(images=images, annotations=notes, categories=cats)))
    return root


@pytest.mark.parametrize('name, pixels', [('panet', 6400), ('pfenet', 3200), ('hsnet', 3200), ('bam', 3200), ('even', 6400)])
def test_overlaps_are_judged_as_the_protocol_says(coco, name, pixels):
    b = fss.benchmark('coco20i', coco)
    p = fss.protocol(name, b, classes=['person'], split='test', list='all', size=160, judged='original', geometry='squash', episodes=6, runs=1)
    assert {int(a) for a, c in zip(p.b.index('test').area, p.b.index('test').cls) if c == PERSON} == {pixels}
    for ep in fss.episode_loader(b, p, 'test'):
        truth = (ep.query_mask == 1).sum().item()*120/160          # squashed from 120x160 to 160x160
        assert truth == pytest.approx(pixels, rel=.03)
    report = fss.evaluate(fss.load('panet-tiny-toy'), b, p, progress=False)
    assert report.episodes == 6


def test_folds_are_cut_as_the_protocol_says(coco):
    b = fss.benchmark('coco20i', coco)
    assert b.novel(0)[:3] == [1, 5, 9] and PERSON in b.novel(0) and CAR not in b.novel(0)
    options = dict(list='all', split='test', episodes=4)
    contiguous = fss.protocol('panet', b, classes=['person', 'car'], **options)
    assert contiguous.folds == 'contiguous' and contiguous.b.novel(0) == list(range(1, 21)) and b.novel(0)[:3] == [1, 5, 9]
    with pytest.raises(fss.FssError, match="class 'bicycle' has 0"): fss.protocol('panet', b, **options)
    with pytest.raises(fss.FssError, match="class 'airplane' has 0"): fss.protocol('pfenet', b, **options)
