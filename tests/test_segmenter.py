"The Segmenter: encoded once, the same by every way there, and one line where something is wrong"
import json
import re
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from fss_nb.core import DataError, Episode, FssError, OptionError, as_mask, to_image
from fss_nb.data.toy import toy_scene
from fss_nb.features.clip import TinyClip
from fss_nb.papers.baselines import AllForeground, RGBPrototypes
from fss_nb.papers.zoo import load
from fss_nb.use.presence import calibration, presence
from fss_nb.use.results import Result, coco_file
from fss_nb.use.segmenter import Segmenter, enlarge
from fss_nb.use.strokes import strokes_mask

S = 64
PICS, LABS = zip(*(toy_scene(0, i, target=5, size=S, split='test') for i in range(5)))
MASKS = [(lab == 5).astype(np.uint8) for lab in LABS]
OTHER = [np.ascontiguousarray((m == 0) & (lab > 0)).astype(np.uint8) for m, lab in zip(MASKS, LABS)]     # whatever else stands there
MODEL = load('panet-tiny-toy').folded()
RIDGE = load('any-tiny').folded()


def new(model=MODEL, **options): return Segmenter(model, size=S, **options)


class Count:
    "A model that counts the pictures it encodes and the answers it gives"
    def __init__(self, model): self.model, self.encoded, self.decoded = model, 0, 0
    def __getattr__(self, name): return getattr(self.model, name)
    def to(self, device): return self
    def folded(self): return self
    def encode(self, x): self.encoded += x[..., 0, 0, 0].numel(); return self.model.encode(x)
    def decode(self, q, *rest): self.decoded += len(next(iter(q.values()))); return self.model.decode(q, *rest)
    def since(self):
        now = self.encoded, self.decoded
        self.encoded = self.decoded = 0
        return now


def test_every_picture_is_encoded_once(tmp_path):
    m = Count(MODEL)
    seg = new(m).set_support(list(PICS[:2]), MASKS[:2])
    assert m.since() == (2, 0)
    seg.predict(PICS[2]); assert m.since() == (1, 1)
    seg.predict(PICS[2]); assert m.since() == (0, 1)
    for change in (dict(masks=MASKS[1]), dict(boxes=(5, 6, 40, 50)), dict(scribbles=[(9, 9), (30, 40)]), dict(points=(20, 20))):
        seg.change_support(1, **change).predict(PICS[2]); assert m.since() == (0, 1)
    seg.set_support(list(PICS[:2]), boxes=[(5, 6, 40, 50)]*2).predict(PICS[2]); assert m.since() == (0, 1)
    seg.add_support(PICS[3], MASKS[3]); assert m.since() == (1, 0)
    seg.remove_support(0).predict([PICS[2], PICS[4], PICS[2]]); assert m.since() == (1, 3)
    Image.fromarray(PICS[4]).save(tmp_path/'a.png')
    seg.predict(tmp_path/'a.png'); assert m.since() == (0, 1)                     # the same picture, now in a file
    seg.predict(tmp_path); assert m.since() == (0, 1)


def test_a_picture_that_was_painted_over_is_another():
    m, pic = Count(MODEL), PICS[2].copy()
    seg = new(m).set_support(PICS[0], MASKS[0])
    first = seg.predict(pic)
    pic[:20] = 0
    again = seg.predict(pic)
    assert m.encoded == 3 and (first.prob != again.prob).any()
    assert (first.prob == seg.predict(PICS[2]).prob).all()


def test_memory_is_bounded_and_changes_no_answer():
    want = [r.prob for r in new().set_support(PICS[0], MASKS[0]).predict(list(PICS))]
    one = sum(v.nbytes for v in new().set_support(PICS[0], MASKS[0]).support['object'][0].features.values())
    for keep in (0, one, 3*one):
        m = Count(MODEL)
        seg = new(m, keep=keep).set_support(PICS[0], MASKS[0])
        for _ in range(2):
            for r, p in zip(seg.each(PICS, batch=2), want): assert np.abs(r.prob-p).max() < 1e-5
        assert sum(v.nbytes for f in seg._seen.values() for v in f.values()) <= keep
        assert len(seg.support['object']) == 1 and m.encoded >= 5                  # supports are never forgotten
        m.since(); seg.change_support(0, OTHER[0]); assert m.since() == (0, 0)


@pytest.mark.parametrize('model', [MODEL, RIDGE, RGBPrototypes()], ids=['panet', 'any-tiny', 'colours'])
@pytest.mark.parametrize('ways', [1, 2])
def test_the_same_as_an_episode_by_hand(model, ways):
    masks = [MASKS[:2], OTHER[:2]][:ways]
    ep = Episode(to_image(np.stack(PICS[:2]))[None, None].expand(1, ways, -1, -1, -1, -1).contiguous(),
                 torch.as_tensor(np.array(masks))[None], to_image(PICS[2])[None], torch.zeros(1, S, S, dtype=torch.uint8), torch.arange(1, ways+1)[None])
    with torch.no_grad(): logits = model(ep)[0].float()
    r = new(model).set_support({f'{n}': (list(PICS[:2]), m) for n, m in enumerate(masks)}).predict(PICS[2])
    p = logits.softmax(0)
    assert np.abs(r.prob-(1-p[0]).numpy()).max() < 1e-4
    sure = (p.sort(0).values[-1]-p.sort(0).values[-2]).numpy() > 1e-3
    assert (r.mask == logits.argmax(0).numpy())[sure].all() and sure.mean() > .9
    on = r.mask > 0
    assert abs(r.score-(float(r.prob[on].mean()) if on.any() else 0)) < 1e-5
    c = calibration(model)
    assert r.present is None if c is None else abs(r.present-presence(logits[None], c).max().item()) < 1e-3
    assert (c is None) == isinstance(model, RGBPrototypes)


@pytest.mark.parametrize('model', [MODEL, RIDGE], ids=['panet', 'any-tiny'])
def test_many_at_a_time_are_each_by_itself(model):
    queries = [PICS[2], PICS[3][:40], PICS[4][:, ::2], np.ascontiguousarray(PICS[0][:, ::-1]), PICS[1]]
    seg = new(model).set_support({'a': (list(PICS[:2]), MASKS[:2]), 'b': (list(PICS[:2]), OTHER[:2])})
    single = [new(model).set_support({'a': (list(PICS[:2]), MASKS[:2]), 'b': (list(PICS[:2]), OTHER[:2])}).predict(q) for q in queries]
    for batch in (1, 2, 8):
        for q, one, r in zip(queries, single, seg.predict(queries, batch=batch)):
            assert r.mask.shape == r.prob.shape == q.shape[:2] and np.abs(r.prob-one.prob).max() < 1e-4


CHANGES = {'mask': dict(masks=MASKS[1]), 'box': dict(boxes=(10, 12, 40, 50)), 'scribbles': dict(scribbles={1: [(20, 20), (40, 30)], 0: [(2, 2), (60, 3)]}),
           'clicks': dict(points=[(30, 30), (40, 40)]), 'strokes': dict(strokes=[dict(kind='brush', points=[[20, 20], [50, 40]], width=9)])}


@pytest.mark.parametrize('change', CHANGES)
def test_a_changed_stroke_is_a_fresh_support(change):
    seg = new().set_support(list(PICS[:2]), MASKS[:2])
    seg.predict(PICS[2]); seg.change_support(1, **CHANGES[change])
    fresh = new().set_support(PICS[0], MASKS[0]).add_support(PICS[1], **CHANGES[change])
    a, b = seg.predict(PICS[2]), fresh.predict(PICS[2])
    assert (a.mask == b.mask).all() and np.abs(a.prob-b.prob).max() < 1e-5
    assert all((x.small == y.small).all() for x, y in zip(seg.support['object'], fresh.support['object']))


def test_strokes_are_their_mask():
    "At the network's own size, where nothing is scaled, a stroke says what the mask of it says"
    for kind in ('brush', 'scribble', 'point'):
        strokes = [dict(kind=kind, points=[[20, 20], [50, 40]], width=9), dict(kind=kind, points=[[5, 60]], width=9, label=0)]
        a = new().set_support(PICS[0], strokes=strokes).predict(PICS[2])
        b = new().set_support(PICS[0], strokes=json.dumps(strokes)).predict(PICS[2])
        c = new().set_support(PICS[0], strokes_mask(strokes, (S, S)) if kind == 'brush' else None,
                              strokes=None if kind == 'brush' else strokes).predict(PICS[2])
        assert (a.prob == b.prob).all() and np.abs(a.prob-c.prob).max() < 1e-6


def test_order_of_names_and_pictures():
    both = {'a': (list(PICS[:2]), MASKS[:2]), 'b': (list(PICS[:2]), OTHER[:2])}
    one, two = (new(RIDGE).set_support(s).predict(PICS[2]) for s in (both, dict(reversed(both.items()))))
    assert one.names == ('a', 'b') and two.names == ('b', 'a')
    assert (one.mask == np.array([0, 2, 1])[two.mask]).mean() > .999 and np.abs(one.prob-two.prob).max() < 1e-4
    turned = new(RIDGE).set_support({n: (p[::-1], m[::-1]) for n, (p, m) in both.items()}).predict(PICS[2])
    assert np.abs(one.prob-turned.prob).max() < 1e-3


def test_unequal_numbers_are_said_and_answered():
    "Each class by itself: for a model that asks so anyway, a picture of unknown mask changes nothing"
    seg = new(RIDGE).set_support({'a': (list(PICS[:2]), MASKS[:2]), 'b': (PICS[0], OTHER[0])})
    with pytest.warns(UserWarning, match=re.escape("support: found {'a': 2, 'b': 1} pictures, each class is asked by itself; give as many")) as said:
        r = seg.predict(PICS[2])
        seg.predict(PICS[3])
    assert len(said) == 1                                                          # once for a support
    with torch.no_grad():
        q = RIDGE.encode(to_image(PICS[2])[None])
        f = RIDGE.encode(to_image(np.stack([PICS[0], PICS[1], PICS[0], PICS[1]])).unflatten(0, (1, 2, 2)))
        m = torch.as_tensor(np.stack([MASKS[0], MASKS[1], OTHER[0], np.full((S, S), 255, np.uint8)])).unflatten(0, (1, 2, 2))
        want = RIDGE.decode(q, f, m, (S, S))[0].softmax(0)
    assert np.abs(r.prob-(1-want[0]).numpy()).max() < 1e-3


def test_one_class_needs_one_map():
    g = torch.Generator().manual_seed(0)
    for size in ((S, S), (90, 41), (20, 30)):
        z = 3*torch.randn(2, 24, 24, generator=g)
        mask, prob = enlarge(z, size)
        big = torch.nn.functional.interpolate(z[None], size=size, mode='bilinear')[0]
        assert np.abs(prob-big.softmax(0)[1].numpy()).max() < 1e-5
        clear = ((big[1]-big[0]).abs() > 1e-4).numpy()
        assert (mask == big.argmax(0).numpy())[clear].all()
    with pytest.raises(FssError, match='numbers that are none'): enlarge(torch.full((2, 8, 8), float('nan')), (9, 9))


def test_who_helped():
    seg = new().set_support([PICS[0], PICS[0], PICS[1]], [MASKS[0], MASKS[0], MASKS[1]])
    found = {h.k: h.change for h in seg.helped(PICS[2])}
    assert found[0] == pytest.approx(found[1], abs=1e-5) and all(0 <= v <= 1 for v in found.values())
    whole = seg.predict(PICS[2]).prob
    less = new().set_support([PICS[0], PICS[0]], [MASKS[0]]*2).predict(PICS[2]).prob
    assert found[2] == pytest.approx(1-np.minimum(whole, less).sum()/np.maximum(whole, less).sum(), abs=1e-4)
    assert [h.change for h in seg.helped(PICS[2])] == sorted(found.values(), reverse=True)
    alone, = new().set_support(PICS[0], MASKS[0]).helped(PICS[2])
    assert (alone.name, alone.k, alone.change) == ('object', 0, 1.)


def test_words():
    seg = new(clip=TinyClip()).set_support(list(PICS[:2]), text='camo crescent')
    assert seg.names == ('camo crescent',)
    for s in seg.support['camo crescent']: assert s.mask.shape == (S, S) and 0 < s.mask.mean() < .9
    a, b = new(clip=TinyClip()).set_support(PICS[2], text='camo crescent', name='it'), new().set_support(PICS[2], seg.set_support(PICS[2], text='camo crescent').support['camo crescent'][0].mask)
    assert a.names == ('it',) and (a.predict(PICS[2]).mask == b.predict(PICS[2]).mask).all()


def test_a_folder_with_other_files_in_it(tmp_path):
    Image.fromarray(PICS[0]).save(tmp_path/'b.png'); Image.fromarray(PICS[1]).save(tmp_path/'a.jpg')
    (tmp_path/'notes.txt').write_text('Monday'); (tmp_path/'torn.png').write_bytes((tmp_path/'b.png').read_bytes()[:900])
    (tmp_path/'sub').mkdir(); (tmp_path/'.hidden').write_text('x')
    before = sorted(tmp_path.rglob('*'))
    seg = new().set_support(PICS[2], MASKS[2])
    with pytest.warns(UserWarning) as said: got = seg.predict(tmp_path)
    assert [str(w.message) for w in said] == [f'{tmp_path}: skipped 3 that are no whole pictures: notes.txt, sub, torn.png']
    assert list(got) == ['a.jpg', 'b.png'] and [r.file for r in got.values()] == list(got)
    for n, r in got.items(): assert np.abs(r.prob-seg.predict(tmp_path/n).prob).max() < 1e-5
    assert sorted(tmp_path.rglob('*')) == before
    for n in ('a.jpg', 'b.png'): (tmp_path/n).unlink()
    with pytest.raises(DataError, match=r'found no whole picture in it \(notes.txt, sub, torn.png\)'): seg.predict(tmp_path)
    with pytest.raises(DataError, match='none a picture'): seg.predict(tmp_path/'sub')


def test_a_list_names_the_picture_that_is_wrong(tmp_path):
    (tmp_path/'torn.png').write_bytes(b'\x89PNG')
    seg = new().set_support(PICS[2], MASKS[2])
    with pytest.raises(DataError, match='^picture 2: found numbers of type float64'): seg.predict([PICS[0], PICS[1]/255])
    with pytest.raises(DataError, match=r'torn.png: found'): seg.predict([PICS[0], tmp_path/'torn.png'])
    assert seg.predict([]) == []


def test_forms_of_a_picture_make_no_difference(tmp_path):
    Image.fromarray(PICS[2]).save(tmp_path/'q.png')
    seg = new().set_support(Image.fromarray(PICS[0]), Image.fromarray(MASKS[0]*255))
    want = seg.predict(PICS[2])
    for x in (tmp_path/'q.png', str(tmp_path/'q.png'), (tmp_path/'q.png').read_bytes(), Image.fromarray(PICS[2]), torch.as_tensor(PICS[2]), to_image(PICS[2])):
        assert (seg.predict(x).mask == want.mask).all()


LARGE = np.zeros((1500, 1500, 3), np.uint8)
BAD = {
    'no support': (lambda s: new().predict(PICS[0]), OptionError, 'predict: found no support, want .*; call set_support first'),
    'no support, helped': (lambda s: new().helped(PICS[0]), OptionError, 'helped: found no support'),
    'a mask missing': (lambda s: s.set_support(list(PICS[:2]), MASKS[:1]), OptionError, 'found 2 pictures and 1 masks, want pairs; give one'),
    'a mask for a list': (lambda s: s.set_support(list(PICS[:2]), MASKS[0]), OptionError, 'found 2 pictures and 1 masks'),
    'no pictures': (lambda s: s.set_support([], []), OptionError, 'found 0 pictures and 0 masks'),
    'no marks': (lambda s: s.set_support(PICS[0]), OptionError, 'found no marks, want one of masks, boxes'),
    'two kinds': (lambda s: s.set_support(PICS[0], MASKS[0], points=(3, 3)), OptionError, 'found masks and points, want one of'),
    'no classes': (lambda s: s.set_support({}), OptionError, 'found 0 classes'),
    'a slip in a dictionary': (lambda s: s.set_support({'a': dict(images=PICS[0], box=(1, 2, 3, 4))}), OptionError, "did you mean 'boxes'"),
    'nothing outlined': (lambda s: s.set_support(PICS[0], 0*MASKS[0]), DataError, 'mask 1 of object: found no object pixel'),
    'empty strokes': (lambda s: s.set_support(PICS[0], strokes=[]), DataError, 'strokes 1 of object: found no object pixel, want at least one; outline'),
    'a stroke of no points': (lambda s: s.set_support(PICS[0], strokes=[dict(kind='brush', points=[])]), DataError, 'stroke 1: found no points'),
    'another size': (lambda s: s.set_support(PICS[0], MASKS[0][:, :30]), DataError, 'found 64x30 pixels, want 64x64 as in its picture'),
    'all object': (lambda s: s.set_support(PICS[0], np.full((S, S), 255, np.uint8)), DataError, 'every pixel is 255'),
    'soft mask': (lambda s: s.set_support(PICS[0], MASKS[0]*.7), DataError, 'threshold it first'),
    'vanishes': (lambda s: s.set_support(LARGE, np.pad([[1]], ((9, 1490), (9, 1490)))), DataError, 'an object of 1 pixels, which vanishes at 64x64; crop'),
    'box outside': (lambda s: s.set_support(PICS[0], boxes=(80, 1, 99, 20)), DataError, r'found a box from \(80,1\) to \(99,20\), outside of the picture of 64x64'),
    'box of three': (lambda s: s.set_support(PICS[0], boxes=(80, 1, 99)), DataError, 'give four numbers'),
    'a number for a scribble': (lambda s: s.set_support(PICS[0], scribbles=(3, 4)), DataError, 'see as_strokes'),
    'no such file': (lambda s: s.set_support('cat.jpg', 'cat.png'), DataError, 'cat.jpg: found no such file'),
    'no such mask': (lambda s: s.set_support(PICS[0], 'cat.png'), DataError, 'cat.png: found no such file'),
    'text without a text model': (lambda s: s.set_support(PICS[0], text='cat'), OptionError, "text='cat': found no network that reads words, want one; pass clip="),
    'text without a picture': (lambda s: s.set_support(None, text='cat'), OptionError, 'found no picture, want one at least; with text= it may be the picture'),
    'which class': (lambda s: s.add_support(PICS[1], MASKS[1]), OptionError, r'found 2 classes \(a, b\), want to know which; pass name='),
    'no such class': (lambda s: s.change_support(0, MASKS[0], name='c'), OptionError, "unknown class of the support 'c'"),
    'no such picture': (lambda s: s.remove_support(1, 'a'), OptionError, 'found 1 pictures of a, want a number from 0 to 0, not 1'),
    'a kind that is none': (lambda s: s.add_support(PICS[0], name='a', box=(1, 2, 3, 4)), OptionError, "did you mean 'boxes'"),
    'batch of nothing': (lambda s: s.predict(PICS[0], batch=0), OptionError, 'batch=0'),
    'no such query': (lambda s: s.predict('garden.jpg'), DataError, 'garden.jpg: found no such file'),
    'strip': (lambda s: s.predict(np.zeros((1, 60000, 3), np.uint8)), DataError, 'picture: found a picture of 1x60000'),
    'a size of nothing': (lambda s: Segmenter(MODEL, size=8), OptionError, 'found size 8, want 32 pixels or more'),
}


@pytest.mark.parametrize('case', BAD)
def test_one_line_and_nothing_changed(case):
    do, kind, says = BAD[case]
    seg = new().set_support({'a': (PICS[0], MASKS[0]), 'b': (PICS[0], OTHER[0])})
    had, want = seg.support, seg.predict(PICS[2])
    with pytest.raises(kind, match=says) as e: do(seg)
    assert '\n' not in str(e.value)
    assert seg.support.keys() == had.keys() and all(x is y for n in had for x, y in zip(had[n], seg.support[n]))
    assert (seg.predict(PICS[2]).prob == want.prob).all()


def test_all_is_object_and_the_rest_stays_finite():
    "A box over the whole picture leaves no background to compare with"
    for model in (MODEL, RIDGE, AllForeground()):
        r = new(model).set_support(PICS[0], boxes=(0, 0, S, S)).predict(PICS[2])
        assert np.isfinite(r.prob).all() and 0 <= r.score <= 1


def test_files_of_results(tmp_path):
    seg = new().set_support({'a': (PICS[0], MASKS[0]), 'b': (PICS[0], OTHER[0])})
    r = seg.predict(PICS[2])
    assert (np.array(Image.open(r.save(tmp_path/'deep'/'er'/'m.png'))) == r.mask).all()
    one = new().set_support(PICS[0], MASKS[0]).predict(PICS[2])
    assert (as_mask(np.array(Image.open(one.save(tmp_path/'one.png')))) == one.mask).all()
    old = (tmp_path/'one.png').read_bytes()
    with pytest.raises(OptionError, match="found the ending '.jpg', want .png"): one.save(tmp_path/'one.jpg')
    (tmp_path/'dir.png').mkdir()
    with pytest.raises(DataError, match='dir.png: could not be written'): one.save(tmp_path/'dir.png')
    assert (tmp_path/'one.png').read_bytes() == old
    assert sorted(p.name for p in tmp_path.rglob('*')) == ['deep', 'dir.png', 'er', 'm.png', 'one.png']


def test_coco_is_read_by_its_own_program(tmp_path, capsys):
    mask_api, coco_api = pytest.importorskip('pycocotools.mask'), pytest.importorskip('pycocotools.coco')
    g = np.random.default_rng(0)
    results = {}
    for k, size in enumerate([(17, 30), (40, 9), (8, 8), (25, 25)]):
        mask = g.integers(0, 3, size).astype(np.uint8)
        mask[g.random(size) < k/4] = 0
        if k == 2: mask[:] = 1
        results[f'{k}.png'] = Result(np.zeros((*size, 3), np.uint8), mask, g.random(size, dtype=np.float32), ('cat', 'dog'))
    results['none.png'] = Result(np.zeros((9, 9, 3), np.uint8), np.zeros((9, 9), np.uint8), np.zeros((9, 9), np.float32), ('dog',))
    coco = coco_api.COCO(str(coco_file(results, tmp_path/'r.json')))
    names = {c['id']: c['name'] for c in coco.loadCats(coco.getCatIds())}
    assert sorted(names.values()) == ['cat', 'dog'] and len({a['id'] for a in coco.dataset['annotations']}) == len(coco.dataset['annotations'])
    for image in coco.dataset['images']:
        r = results[image['file_name']]
        assert (image['height'], image['width']) == r.mask.shape
        anns = coco.loadAnns(coco.getAnnIds(image['id']))
        assert sorted(names[a['category_id']] for a in anns) == [n for k, n in enumerate(r.names, 1) if (r.mask == k).any()]
        for a in anns:
            on = r.mask == r.names.index(names[a['category_id']])+1
            assert (coco.annToMask(a) == on).all()
            rle = coco.annToRLE(a)
            assert a['area'] == mask_api.area(rle) == on.sum() and a['bbox'] == list(mask_api.toBbox(rle))
            assert a['score'] == pytest.approx(float(r.prob[on].mean()), abs=1e-5) and a['iscrowd'] == 0
    again = coco.loadRes([{k: a[k] for k in ('image_id', 'category_id', 'segmentation', 'bbox', 'score')} for a in coco.dataset['annotations']])
    assert len(again.anns) == len(coco.anns)


def test_large_and_small_pictures_come_back_at_their_own_size():
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        seg = new().set_support(np.kron(PICS[0], np.ones((3, 5, 1), np.uint8)), np.kron(MASKS[0], np.ones((3, 5), np.uint8)))
        for size in ((8, 8), (9, 700), (301, 77)):
            r = seg.predict(np.resize(PICS[2], (*size, 3)))
            assert r.mask.shape == r.prob.shape == size and r.mask.dtype == np.uint8 and r.prob.dtype == np.float32


def test_windows_do_not_matter_to_a_model_of_single_pixels():
    "RGB prototypes look at no neighbour: through windows as large as the network they say what they say of each pixel"
    scene = toy_scene(0, 7, target=5, size=150, split='test')[0]
    seg = new(RGBPrototypes()).set_support({'a': (PICS[0], MASKS[0]), 'b': (PICS[0], OTHER[0])})
    m = RGBPrototypes()
    masks = torch.as_tensor(np.stack([MASKS[0], OTHER[0]]))[None, :, None]
    s = m.encode(to_image(np.stack([PICS[0], PICS[0]]))[None, :, None])
    want = m.decode(m.encode(to_image(scene)[None]), s, masks, scene.shape[:2])[0].softmax(0)
    r = seg.predict(scene, windows=True)
    assert np.abs(r.prob-(1-want[0]).numpy()).max() < 1e-4
    assert (r.mask == want.argmax(0).numpy()).mean() > .999


def test_windows_of_a_small_picture_are_the_picture():
    seg = new(RIDGE).set_support(PICS[0], MASKS[0])
    a, b = seg.predict(PICS[2]), seg.predict(PICS[2], windows=200)
    assert np.abs(a.prob-b.prob).max() < 1e-4
    for wrong in (4, 'large', (3, 400)):
        with pytest.raises(OptionError, match='windows: found .*, want True'): seg.predict(PICS[2], windows=wrong)
    with pytest.raises(OptionError, match='windows: found'): seg.predict([PICS[2]], windows=-1)


LARGE_PICTURE = """
import resource, sys, numpy as np
import fss_nb as fss
from fss_nb.data.toy import toy_scene
pic, lab = toy_scene(0, 0, target=5, size=128, split='test')
large = np.kron(pic, np.ones((24, 32, 1), np.uint8))[:3000, :4000]
seg = fss.Segmenter(size=64).set_support(pic, lab == 5)
for windows in (None, 900):
    r = seg.predict(large, windows=windows)
    assert r.mask.shape == (3000, 4000) and np.isfinite(r.prob).all()
try:                                      # getrusage would also count the process that started this one
    print(1024*next(int(s.split()[1]) for s in open('/proc/self/status') if s.startswith('VmHWM')))
except OSError:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss*(1 if sys.platform == 'darwin' else 1024))
"""


def test_a_large_picture_needs_less_than_two_gigabytes():
    import subprocess
    import sys
    done = subprocess.run([sys.executable, '-c', LARGE_PICTURE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 2*2**30


def test_learning_from_the_support():
    "What was learnt is used, judged by a picture that took no part, and forgotten with the next change"
    big = [1-m for m in MASKS]                                        # what fills the picture: there is something to learn
    seg = new(RIDGE).set_support(list(PICS[:4]), big[:4])
    base, state = seg.predict(PICS[4]), {k: v.clone() for k, v in RIDGE.state_dict().items()}
    seg.adapt(steps=12, lr=1e-3)
    assert seg.weights is not None
    learnt = seg.predict(PICS[4])
    assert np.abs(learnt.prob-base.prob).max() > 1e-3
    assert all((v == state[k]).all() for k, v in RIDGE.state_dict().items())
    again = new(RIDGE).set_support(list(PICS[:4]), big[:4], adapt=dict(steps=12, lr=1e-3)).predict(PICS[4])
    assert np.abs(again.prob-learnt.prob).max() < 1e-4
    assert seg.change_support(0, big[0]).weights is None
    assert np.abs(seg.predict(PICS[4]).prob-base.prob).max() < 1e-5


def test_learning_that_does_harm_is_not_kept():
    seg = new(RIDGE).set_support(list(PICS[:4]), MASKS[:4])
    want = seg.predict(PICS[4]).prob
    with pytest.warns(UserWarning, match=r'adapt: the picture that judges is answered no better .* the model stays as it is'):
        seg.adapt(steps=3, lr=30., progress=False)
    assert seg.weights is None and (seg.predict(PICS[4]).prob == want).all()


@pytest.mark.parametrize('case,model,n,says', [('two pictures', RIDGE, 2, 'found 2 pictures of a class, want three'),
                                               ('no head', MODEL, 3, 'no weights outside of the backbone of panet')])
def test_learning_where_it_cannot_be(case, model, n, says):
    seg = new(model).set_support(PICS[4], MASKS[4])
    had = seg.support['object'][0]
    with pytest.raises(OptionError, match=says): seg.set_support(list(PICS[:n]), MASKS[:n], adapt=True)
    assert seg.support['object'][0] is had
    with pytest.raises(OptionError, match='adapt: found no support'): new(model).adapt()
