"What is asked about pictures that do not show it: hand-made counts, recorded hashes, N ways for every system"
import json
import subprocess
import sys
from itertools import permutations

import numpy as np
import pytest
import torch

import fss_nb as fss
from fss_nb.data.episodes import EpisodeDataset
from fss_nb.data.procedural import ProceduralBenchmark
from fss_nb.data.toy import ToyBenchmark
from fss_nb.refine.ways import way_targets
from fss_nb.score.absence import Sightings, presence_summary
from fss_nb.score.check import noise_episode
from fss_nb.score.metrics import Meter
from fss_nb.use.presence import calibration, fit_calibration, presence, presence_table, watch, way_probabilities

SYSTEMS = fss.list_models()
VOLUMES, MEMORY = dict(channels=(4, 4, 8)), dict(gate=8, groups=4)
NARROW = {**{name: {'width': 8} for name in SYSTEMS}, 'panet': {}, 'ridge': {'width': (4, 6, 8)}, 'hsnet': VOLUMES, 'imr_pfenet': {'width': 8, **MEMORY},
          'imr_hsnet': {**VOLUMES, **MEMORY, 'mid': 16, 'grid': (12, 12)}}


def make(name):
    torch.manual_seed(0)
    return fss.create_model(name, backbone='tiny', **NARROW[name]).eval()


def turned(ep, order):
    "The same episode with its ways in another order: way n of the new one is way order[n] of the old"
    order = list(order)
    place = torch.tensor([0, *(order.index(n)+1 for n in range(ep.ways))])
    mask = torch.where(ep.query_mask == 255, 255, place[ep.query_mask.long().clamp(max=ep.ways)])
    return fss.Episode(ep.support_imgs[:, order], ep.support_masks[:, order], ep.query_img, mask, ep.class_id[:, order])


@pytest.mark.parametrize('name', SYSTEMS)
def test_many_ways(name):
    "One, two and five ways: logits of every way; ways in another order are channels in another order, and the same loss"
    m = make(name)
    for N in (1, 2, 5):
        ep = noise_episode(1, N, 1, (40, 48))
        with torch.no_grad():
            out = m(ep)
            assert out.shape == (1, N+1, 40, 48) and out.isfinite().all() and out[:, 1:].std() > 0
            loss = m.losses(ep)['total']
            for order in [*permutations(range(N))][1::59]:
                again = turned(ep, order)
                got = m(again)
                want = torch.cat([out[:, :1], out[:, 1:][:, list(order)]], 1)
                assert (got-want).abs().max() < 1e-4*max(1., out.abs().max().item()), (N, order)
                if name != 'simpropnet':                                  # its dropout inside the loss is per place
                    assert abs((m.losses(again)['total']-loss).item()) < 1e-4*max(1., loss.item()), (N, order)


@pytest.mark.parametrize('name', SYSTEMS)
def test_many_ways_are_single_ways(name):
    "Where a way is asked alone, its lead over background is what it was among others; PANet's ways share one softmax"
    m, ep = make(name), noise_episode(1, 3, 1, (40, 48))
    with torch.no_grad():
        out = m(ep)
        for n in range(3):
            one = fss.Episode(ep.support_imgs[:, [n]], ep.support_masks[:, [n]], ep.query_img, way_targets(ep.query_mask, 3)[[n]], ep.class_id[:, [n]])
            lead = m(one)
            lead = lead[:, 1]-lead[:, 0]
            near = ((out[:, n+1]-out[:, 0])-lead).abs().max() < 1e-3*max(1., lead.abs().max().item())
            assert near or name == 'panet'


def toy(**options): return ToyBenchmark(**{**dict(n_train=60, n_test=120), **options})


RECORDED = {'even': ('c8a033ec4e32b82e', '0a76a568b40a1d4e'), 'panet': ('c96dcbf2e3a7df39', '4e31d82f48ee6fac'),
            'hsnet': ('9d6d5e37b12329c0', 'eb8a31ca13835cb3'), 'pfenet': ('a332ace6184b4bde', '4be7e1559c7bee6c')}


def test_hashes_are_what_they_were():
    "Protocols and manifests of before there were negatives, recorded then"
    b = toy()
    for name, (whole, rows) in RECORDED.items():
        p = fss.protocol(name, b, fold=1, shots=2, episodes=30, runs=1)
        assert (p.sha256[:16], p.manifest().sha256[:16]) == (whole, rows), name
        assert 'negatives' not in p.to_dict() and 'without' not in p.card()


@pytest.mark.parametrize('name, ways', [('even', 1), ('even', 3), ('panet', 2), ('hsnet', 1), ('pfenet', 1)])
def test_a_negative_shows_nothing_of_it(name, ways):
    "Classes and supports stay, the query has no pixel of the classes; the others are the very same episodes"
    b = toy()
    plain = fss.protocol(name, b, fold=1, shots=2, episodes=40, runs=2, ways=ways)
    p = fss.protocol(name, b, fold=1, shots=2, episodes=40, runs=2, ways=ways, negatives=.3)
    assert p.sha256 != plain.sha256 and p.manifest().sha256 != plain.manifest().sha256 and '30 %' in p.card()
    data, n = EpisodeDataset(p.b, p, p.manifest().rows), 0
    for i, (old, new) in enumerate(zip(plain.manifest(), p.manifest(), strict=True)):
        assert (old.classes, old.supports) == (new.classes, new.supports) and p.test_row(i) == new
        if not p.is_negative(i):
            assert old == new
            continue
        n += 1
        assert not np.isin(b.label(new.query), new.classes).any() and not ((data[i].query_mask > 0) & (data[i].query_mask < 255)).any()
    assert n == sum(p.is_negative(i) for i in range(80)) and abs(n-24) <= 4*(80*.3*.7)**.5 and not any(plain.is_negative(i) for i in range(80))
    more = fss.protocol(name, b, fold=1, shots=2, episodes=40, runs=2, ways=ways, negatives=.6)
    assert all(more.is_negative(i) and more.test_row(i) == p.test_row(i) for i in range(80) if p.is_negative(i))


def test_drawn_negatives():
    b = ProceduralBenchmark(size=64)
    plain, p = (fss.protocol('drawn', b, episodes=20, negatives=s) for s in (0, .5))
    for i in range(20):
        old, new = plain.test_row(i), p.test_row(i)
        assert old.supports == new.supports and (old == new) != p.is_negative(i)
        assert b.mask(new.query, new.classes[0]).any() != p.is_negative(i)


def test_other_processes_draw_the_same_negatives(tmp_path):
    code = ("from fss_nb.data.toy import ToyBenchmark; import fss_nb as fss; b = ToyBenchmark(n_train=60, n_test=120);"
            "print(fss.protocol('even', b, fold=1, ways=2, negatives=.4).manifest().sha256)")
    said = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout.strip()
    assert said == fss.protocol('even', toy(), fold=1, ways=2, negatives=.4).manifest().sha256


@pytest.mark.parametrize('share', [-.1, 1.5, True, 'some', None, float('nan')])
def test_a_share_is_a_share(share):
    with pytest.raises(fss.OptionError, match=r'found negatives=.*want a share of the queries, 0..1; e.g. negatives=.25'):
        fss.protocol('even', toy(), negatives=share)


def test_counts_by_hand():
    "Four queries, two ways, void in a corner; every number by paper and pencil"
    T = torch.zeros(4, 4, 4, dtype=torch.uint8)
    P = torch.zeros(4, 4, 4, dtype=torch.uint8)
    T[:, 3, 3] = 255
    T[0, 0], P[0, 0] = 1, 1                        # way 1 is there and called: right, way 2 neither
    T[1, 0], P[1, 1] = 2, 1                        # way 2 is there, missed; way 1 called for nothing, 4 pixels
    P[2, 3, 3] = 2                                 # nothing is there; called on void alone, which is not called
    P[3, :2] = 2                                   # nothing is there; 8 pixels of way 2
    score = torch.tensor([[.9, .1], [.8, .3], [.2, .3], [.1, .7]])
    s = Sightings().update(P, T, score, 'abcd')
    assert s.counts[..., 0].tolist() == [[4, 0], [0, 4], [0, 0], [0, 0]] and s.judged.tolist() == [15]*4
    assert s.counts[..., 1].tolist() == [[4, 0], [4, 0], [0, 0], [0, 8]] and s.counts[..., 2].tolist() == [[4, 0], [0, 0], [0, 0], [0, 0]]
    got = {k: v.value for k, v in presence_summary(s).items()}
    assert got['exact_ratio'] == pytest.approx(2/4) and got['exact_score'] == pytest.approx(2/4)
    assert got['false_area'] == pytest.approx((4+8)/(6*15))                                      # six absent ways of 15 pixels
    assert got['auroc'] == pytest.approx((6+(.5+3))/12)      # .9 beats all six; .3 beats .1, .2, .1 and ties with .3
    assert got['ap'] == pytest.approx((1+2/5)/2)             # .3 is there: among .9, .8, .7, .3, .3


class Painter(torch.nn.Module):
    "Calls everything object; sure where the query is bright"
    def encode(self, imgs): return {'x': imgs[:, :1]}
    def decode(self, f_query, f_support, support_masks, size):
        lead = f_query['x'].expand(-1, support_masks.shape[1], -1, -1)+9
        return torch.cat([torch.zeros_like(lead[:, :1]), lead], 1)


def test_usual_numbers_are_of_queries_that_show_it():
    "mIoU as if the negatives had not been asked; with them, false alarms lower it; and false area is all there is"
    b = toy()
    plain, p = (fss.protocol('even', b, fold=1, episodes=40, negatives=s) for s in (0, .4))
    m = Painter()
    r = fss.evaluate(m, b, p, progress=False)
    shows = torch.tensor([not p.is_negative(i) for i in range(40)])
    meter, whole = Meter(), Meter()
    for i, row in enumerate(p.manifest()):
        ep = EpisodeDataset(b, p, [row])[0]
        for x in [whole]+[meter]*bool(shows[i]): x.update(m.decode(m.encode(ep.query_img), None, ep.support_masks, ep.size).argmax(1), ep.query_mask, ep.class_id)
    assert r.miou == pytest.approx(meter.miou(), abs=1e-12) and r.fbiou == pytest.approx(meter.fbiou(), abs=1e-12)
    assert r.presence['miou_all'][0] == pytest.approx(whole.miou(), abs=1e-12) and r.presence['miou_all'][0] < r.miou
    assert r.presence['false_area'] == [1, 1, 1] and r.presence['exact_ratio'][0] == pytest.approx(shows.double().mean().item())
    assert r.episodes == shows.sum() and r.presence['queries'] == 40 and json.loads(json.dumps(r.to_dict())) == r.to_dict()
    usual = fss.evaluate(m, b, plain, progress=False)
    assert torch.equal(r.counts, usual.counts[shows]) and usual.presence is None and 'presence' not in usual.to_dict()
    assert torch.equal(r.sightings.there[:, 0], shows)


@pytest.mark.parametrize('how', [dict(cache=False), dict(batch_size=3), dict(change=lambda ep: ep)])
def test_how_it_is_computed_changes_nothing(how):
    b = toy()
    ps = [fss.protocol('even', b, fold=1, episodes=15, negatives=.4, ways=2), fss.protocol('panet', b, fold=1, episodes=6, runs=2, negatives=.5)]
    m = make('panet')
    for want, got in zip(fss.evaluate(m, b, ps, progress=False), fss.evaluate(m, b, ps, progress=False, **how)):
        near = 3 if how.get('change') else 0                    # pixels: there pictures are encoded together
        assert (want.sightings.counts-got.sightings.counts).abs().max() <= near and want.sightings.queries == got.sightings.queries
        assert (want.sightings.score-got.sightings.score).abs().max() < 1e-4
        assert (want.counts-got.counts).abs().max() <= near


def test_a_score_of_ones_own():
    "evaluate takes any score; one that knows the truth is always right"
    b = toy()
    p = fss.protocol('even', b, fold=1, episodes=20, negatives=.5)
    queue = [float(not p.is_negative(i)) for i in range(20)]
    def oracle(logits): return torch.tensor([[queue.pop(0)] for _ in logits])
    r = fss.evaluate(Painter(), b, p, progress=False, score=oracle)
    assert not queue and r.presence['auroc'][0] == r.presence['exact_score'][0] == 1 > r.presence['exact_ratio'][0]


def test_ways_per_class():
    "Five ways on toy: every class has its own counts, as many as one way after the other says"
    b = toy()
    p = fss.protocol('even', b, fold=1, ways=5, episodes=12)
    m, by_hand = make('panet'), {}
    with torch.no_grad():
        for row in p.manifest():
            ep = EpisodeDataset(b, p, [row])[0]
            labels = m(ep).argmax(1)
            for n, c in enumerate(row.classes, 1):
                hit, either = ((labels == n) & (ep.query_mask == n)).sum(), (((labels == n) | (ep.query_mask == n)) & (ep.query_mask != 255)).sum()
                i, u = by_hand.get(c, (0, 0))
                by_hand[c] = i+hit.item(), u+either.item()
    r = fss.evaluate(m, b, p, progress=False)
    assert r.per_class == pytest.approx({b.classes[c-1]: i/u for c, (i, u) in by_hand.items() if u}, abs=1e-4)     # a pixel may flip with the batch
    assert r.miou == pytest.approx(np.mean([*r.per_class.values()]), abs=1e-12)


PRESENT = fss.bundled_models()


@pytest.mark.parametrize('name', PRESENT)
def test_every_bundled_model_is_calibrated(name):
    "On weights of this very training, without a photograph, tested on episodes that it was not fitted to"
    m, about = fss.load(name), presence_table()[name]
    c = calibration(m)
    assert c is not None and all(w >= 0 for w in c.weights) and any(w > 0 for w in c.weights) and about['photographs'] == 'none'
    assert about['card'] == {k: m.card[k] for k in about['card']} and {'recipe', 'seed', 'commit'} <= {*about['card']}
    assert all(t['chance']['auroc'][1] <= t['chance']['auroc'][0] <= t['chance']['auroc'][2] for t in about['tests'])
    own = about['tests'][0]['chance']
    assert own['auroc'][1] > .5 and own['ece'] < about['tests'][0]['largest']['ece']
    for t in about['tests']:
        count, said, found = map(np.array, t['chance']['bins'])
        assert count.sum() == t['queries'] and (count*found).sum() == pytest.approx(t['there'], abs=.1)
        assert t['chance']['ece'] == pytest.approx((abs(said-found)*count).sum()/count.sum(), abs=1e-3)


def answers(seed=0, ways=2):
    g = torch.Generator().manual_seed(seed)
    return 3*torch.randn(3, ways+1, 40, 50, generator=g)


@pytest.mark.parametrize('name', PRESENT)
def test_laws_of_presence(name):
    "Mirrored, enlarged by copies, ways in another order or alone: the same chance. Surer of the same pixels: never a smaller one"
    c, z = calibration(fss.load(name)), answers()
    p = presence(z, c)
    assert p.shape == (3, 2) and ((p > 0) & (p < 1)).all()
    for same in (z.flip(-1), z.flip(-2), z.transpose(-1, -2), z.repeat_interleave(2, -1).repeat_interleave(2, -2), z+7.):
        assert (presence(same, c)-p).abs().max() < 1e-6
    assert (presence(z[:, [0, 2, 1]], c)-p.flip(1)).abs().max() < 1e-9
    for n in (1, 2): assert (presence(z[:, [0, n]], c)[:, 0]-p[:, n-1]).abs().max() < 1e-9
    chances = [presence(z*s, c) for s in (.25, .5, 1, 2, 4)]
    assert all((b >= a).all() for a, b in zip(chances, chances[1:])) and (chances[-1] > chances[0]).all()
    lower = z.clone(); lower[:, 1:] -= 100
    assert (presence(lower, c) < p).all() and (presence(lower, c) < .5).all()


def test_no_chance_without_a_calibration():
    m = make('panet')
    assert calibration(m) is None
    m.card = dict(fss.load('panet-tiny-toy').card, seed=99)
    assert calibration(m) is None


def test_calibration_is_fitted_to_what_was_watched():
    "Toy, forty questions: the mean chance is the share that was there, and the table that ships says so of its tests"
    b, m = toy(), fss.load('panet-tiny-toy')
    w = watch(m, b, fss.protocol('even', b, fold=0, episodes=40, negatives=.5))
    c, there = w.fit(), w.sightings.there[:, 0]
    assert c.chance(w.features).mean().item() == pytest.approx(there.double().mean().item(), abs=1e-6)
    r = fss.evaluate(m, b, fss.protocol('even', b, fold=0, episodes=40, negatives=.5), progress=False, score=lambda z: presence(z, c))
    assert (r.sightings.score-c.chance(w.features)).abs().max() < 1e-6 and torch.equal(r.sightings.there, w.sightings.there)
    assert r.miou == w.miou


@pytest.mark.parametrize('bad, says', [(torch.zeros(2, 1, 4, 4), 'want .B,N.1,H,W., background first'), (torch.zeros(3, 4, 4), 'background first')])
def test_presence_wants_logits(bad, says):
    with pytest.raises(fss.ShapeError, match=says): way_probabilities(bad)


def test_a_fit_wants_both_kinds():
    x = torch.randn(9, 2)
    for features, there in ((x, torch.ones(9) > 0), (x*torch.nan, torch.arange(9) > 4), (x[0], torch.arange(9) > 4)):
        with pytest.raises(fss.DataError, match='want .M,F. finite numbers and answers of both kinds; ask more episodes'): fit_calibration(features, there)
