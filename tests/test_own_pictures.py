"Ten pictures and their masks in a folder, nothing else: the three lines that the notebook promises, typed by a new user"
import json
import re
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

from fss_nb.data.toy import toy_scene
from fss_nb.report import cli

SIZES = [(72, 72), (96, 80), (80, 96), (72, 90), (100, 72)]*2


def three_lines():
    "The first block of Python in the notebook about folders"
    cells = json.loads((ROOT/'nbs'/'16_data.folder.ipynb').read_text(encoding='utf-8'))['cells']
    text = next(t for c in cells if '```python' in (t := ''.join(c['source'])))
    return re.search(r'```python\n(.*?)```', text, re.S)[1]


def drawn():
    "Ten drawn pictures of several sizes, each with one gear and its mask"
    for i, (h, w) in enumerate(SIZES):
        pic, lab = toy_scene(3, i, 100, target=3, split='test')
        yield f'photo {i}', pic[:h, :w], np.uint8(255*(lab == 3))[:h, :w]


@pytest.fixture
def mine(tmp_path):
    "The folder as a person would make it: photographs as JPEG, masks in black and white"
    for sub in ('images', 'masks'): (tmp_path/'mine'/sub).mkdir(parents=True)
    for name, pic, mask in drawn():
        Image.fromarray(pic).save(tmp_path/'mine'/'images'/f'{name}.jpg', quality=95)
        Image.fromarray(mask).save(tmp_path/'mine'/'masks'/f'{name}.png')
    return tmp_path


def fresh(home, monkeypatch, *words):
    "A new Python with an empty cache"
    monkeypatch.setenv('FSS_NB_CACHE', str(home/'cache')); monkeypatch.delenv('FSS_NB_DATA', raising=False)
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, cwd=home)


def test_the_three_lines(mine, monkeypatch):
    lines = three_lines()
    assert len(lines.splitlines()) == 3
    look = ("import json\nr = fss.evaluate(fss.load('panet-tiny-toy'), b, p := fss.protocol('even', b), progress=False)\n"
            "ix = b.index('test')\n"
            "print(json.dumps(dict(r.to_dict(), classes=b.classes, ids=b.ids('test'), area=ix.area.tolist(), shown=str(r),\n"
            "    queries=[x.query for x in p.manifest().rows], counts=r.counts.sum(1).tolist())))")
    done = fresh(mine, monkeypatch, '-c', f'{lines}\n{look}')
    assert done.returncode == 0, done.stderr
    *printed, last = done.stdout.splitlines()
    r = json.loads(last)
    names, masks = [n for n, _, _ in drawn()], [m for _, _, m in drawn()]
    assert printed == r['shown'].splitlines() and 'folder fold 0, 1-way 1-shot, protocol even, 10 episodes' in printed[0]
    assert (r['classes'], r['ids'], r['episodes']) == (['object'], names, 10)
    assert r['area'] == [int((m == 255).sum()) for m in masks]
    assert sorted(r['queries']) == names                                     # each picture is asked about once
    size = r['protocol']['size']
    for (_, (inter, union)), (background, _) in zip(r['counts'], r['counts']):
        assert 0 <= inter <= union <= size**2 and union+background[0] <= size**2
    inter, union = np.sum([c[1] for c in r['counts']], 0)
    assert np.isclose(r['miou'], inter/union) and r['ci'][0] <= r['miou'] <= r['ci'][1]
    assert r['miou'] > .2                                                    # the model knows drawn gears


def test_the_same_from_the_command_line(mine, monkeypatch):
    words = ['-c', 'from fss_nb.report.cli import main; main()', 'eval', '--benchmark', 'folder', '--root', 'mine', '--no-baselines', '--json', 'e.json']
    done = fresh(mine, monkeypatch, *words)
    assert (done.returncode, done.stderr) == (0, '')
    r = json.loads((mine/'e.json').read_text())['reports']['panet-tiny-toy']
    assert r['episodes'] == 10 and list(r['per_class']) == ['object'] and f"{100*r['miou']:.1f}" in done.stdout
    kept = sorted(p.name for p in (mine/'cache').iterdir())
    assert len(kept) == 2 and all(n.startswith('folder-') for n in kept), kept      # the masks as seen, and the index
    again = fresh(mine, monkeypatch, *words)
    assert again.stdout == done.stdout and sorted(p.name for p in (mine/'cache').iterdir()) == kept


def test_the_same_pictures_with_coco_outlines(mine, monkeypatch):
    rle = pytest.importorskip('pycocotools.mask')
    code = [rle.encode(np.asfortranarray(m == 255, dtype=np.uint8)) for _, _, m in drawn()]
    said = dict(categories=[dict(id=4, name='gear')],
                images=[dict(id=i, file_name=f'{n}.jpg', height=m.shape[0], width=m.shape[1]) for i, (n, _, m) in enumerate(drawn())],
                annotations=[dict(id=i, image_id=i, category_id=4, segmentation={**c, 'counts': c['counts'].decode()})
                             for i, c in enumerate(code)])
    before = fresh(mine, monkeypatch, '-c', three_lines())
    for path in (mine/'mine'/'masks').iterdir(): path.unlink()
    (mine/'mine'/'masks').rmdir(); (mine/'mine'/'labels.json').write_text(json.dumps(said))
    done = fresh(mine, monkeypatch, '-c', three_lines())
    assert done.returncode == before.returncode == 0, done.stderr
    assert done.stdout.replace('gear', '').split() == before.stdout.replace('object', '').split()


BAD = {
    'a mask is missing':  (lambda d: (d/'masks'/'photo 3.png').unlink(), r'mine/images/photo 3.jpg: found no mask .*; draw it or'),
    'a mask of another size': (lambda d: Image.fromarray(np.full((9, 9), 255, np.uint8)*np.eye(9, dtype=np.uint8)).save(d/'masks'/'photo 3.png'),
                               r'mine/masks/photo 3.png: found 9x9 pixels, want 72x90 .*; redraw'),
    'a name twice':       (lambda d: (d/'images'/'photo 3.png').write_bytes((d/'images'/'photo 3.jpg').read_bytes()), r'mine/images/photo 3.png: found photo 3.jpg as well'),
    'two layouts':        (lambda d: (d/'labels.json').write_text('{"images": [], "annotations": [], "categories": []}'),
                           r'mine: found the masks twice, in labels.json and in masks, .*; move the other away'),
}


@pytest.mark.parametrize('case', BAD)
def test_a_slip_is_one_line(mine, monkeypatch, capfd, case):
    spoil, says = BAD[case]
    spoil(mine/'mine')
    monkeypatch.chdir(mine); monkeypatch.setenv('FSS_NB_CACHE', str(mine/'cache'))
    with pytest.raises(SystemExit) as stop: cli.main('eval --benchmark folder --root mine'.split())
    out, err = capfd.readouterr()
    assert (stop.value.code, out, err.count('\n')) == (2, '', 1)
    assert re.match(f'fss: {says}', err), err
    assert not (mine/'cache').exists()                                       # nothing half-written
