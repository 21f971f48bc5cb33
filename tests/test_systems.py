"Every system from outside: saved and brought back, on every backbone, in the tools that know only encode and decode"
import json
from dataclasses import replace

import pytest
import torch

import fss_nb as fss
from fss_nb.core import torch_rng
from fss_nb.data.coarse import coarse_episode, without_support
from fss_nb.score.check import noise_episode

SYSTEMS = fss.list_models()
VOLUMES = dict(channels=(4, 4, 8))
MEMORY = dict(gate=8, groups=4)
NARROW = {**{name: {'width': 8} for name in SYSTEMS}, 'panet': {}, 'ridge': {'width': (4, 6, 8)}, 'hsnet': VOLUMES, 'imr_pfenet': {'width': 8, **MEMORY},
          'imr_hsnet': {**VOLUMES, **MEMORY, 'mid': 16, 'grid': (12, 12)}}
BACKBONES = {**{name: ('vgg16', 'vgg16_bn', 'resnet50', 'tiny-any') for name in SYSTEMS}, 'panet': ('tiny-any',),
             'hsnet': ('vgg16', 'resnet50', 'tiny-any'), 'imr_hsnet': ('vgg16', 'resnet50', 'tiny-any')}


def make(name, backbone='tiny', **options):
    torch.manual_seed(0)
    return fss.create_model(name, backbone=backbone, **{**NARROW[name], **options})


@pytest.mark.parametrize('name', SYSTEMS)
def test_saved_and_loaded(name, tmp_path):
    m, ep = make(name), noise_episode(1, 2, 2)
    m.save_pretrained(tmp_path)
    twin = fss.load(tmp_path)
    assert twin.cfg == m.cfg
    with torch.no_grad():
        assert torch.equal(twin(ep), m(ep))


@pytest.mark.parametrize('name, backbone', [(n, b) for n, bs in BACKBONES.items() for b in bs])
def test_backbones(name, backbone):
    "Grids of two sizes (VGG) and of one, an odd picture, two ways"
    m, ep = make(name, backbone), noise_episode(1, 2, 1, size=(41, 57))
    assert any(p.requires_grad for p in m.backbone.parameters()) == (not m.frozen)
    with torch.no_grad():
        assert m(ep).isfinite().all() and m(ep).shape == (1, 3, 41, 57)


@pytest.mark.parametrize('name', SYSTEMS)
def test_options_survive_a_file(name):
    "What a run writes into options.json makes the same model again"
    m = make(name)
    options = json.loads(json.dumps(m.cfg.__dict__))
    assert fss.create_model(name, backbone='tiny', **options).cfg == m.cfg


@pytest.mark.parametrize('name, backbone', [(n, b) for n in SYSTEMS for b in ('tiny', 'resnet50') if b in ('tiny', *BACKBONES[n])])
def test_folded_norms_change_no_answer(name, backbone):
    "Other noise than it was folded with, and statistics that are not the first ones"
    m, g = make(name, backbone).eval(), torch_rng('norms')
    norms = [x for x in m.modules() if isinstance(x, torch.nn.BatchNorm2d)]
    for x in norms:
        x.running_mean.normal_(0, .1, generator=g)
        x.running_var.uniform_(.5, 2, generator=g)
    quick, ep = m.folded(), noise_episode(2, 2, 2, seed=5)
    ran, is_norm = [], lambda x: isinstance(x, torch.nn.BatchNorm2d)
    for x in filter(is_norm, quick.modules()): x.register_forward_hook(lambda *_: ran.append(1))
    with torch.no_grad():
        before, after = m(ep), quick(ep)
    assert (before-after).abs().max() < 1e-3*max(1, before.abs().max()) and before.std() > 0
    assert norms and not ran and sum(map(is_norm, quick.modules())) < len(norms)      # stages that nobody asks keep theirs


@pytest.mark.parametrize('name', SYSTEMS)
def test_evaluated_with_and_without_cache(name):
    b = fss.benchmark('toy', n_train=100, n_test=40)
    p = fss.protocol('even', b, fold=1, shots=2, episodes=12)
    m = make(name, pretrained='toy')
    kept, fresh = (fss.evaluate(m, b, p, cache=cache, progress=False) for cache in (True, False))
    assert torch.equal(kept.counts, fresh.counts)


@pytest.mark.parametrize('name', SYSTEMS)
def test_losses_from_features_that_are_kept(name):
    "Pictures encoded by themselves, one by one, give the losses of a step on pictures; in 64 bits, without kinks, its gradients too"
    whole = make(name, pretrained='toy', **({'ica': 0.} if name == 'simpropnet' else {})).train()
    assert whole.cacheable == whole.frozen
    for dtype, near, nearer in ((torch.float32, 1e-5, None), (torch.float64, 1e-10, 1e-9)) if whole.cacheable else ():
        m, ep = whole.to(dtype), coarse_episode(noise_episode(2, 1, 2, size=(48, 48)), .6).to(dtype=dtype)
        with torch.no_grad():
            each = [m.encode(x[None]) for x in (*ep.query_img, *ep.support_imgs.flatten(0, 2))]
        f = {k: torch.cat([x[k] for x in each]) for k in each[0]}
        kept = {k: t[:2] for k, t in f.items()}, {k: t[2:].unflatten(0, (2, 1, 2)) for k, t in f.items()}
        said = []
        for features in (None, kept):
            torch.manual_seed(1)
            m.zero_grad()
            m.progress = .5
            losses = m.losses(ep, features)
            losses['total'].backward()
            said.append((torch.stack([*losses.values()]).detach(), torch.cat([p.grad.flatten() for p in m.parameters() if p.grad is not None])))
        (want, slope), (have, slope_2) = said
        assert (want-have).abs().max() < near*want.abs().max()
        assert nearer is None or (slope-slope_2).abs().max() < nearer*slope.abs().max()


@pytest.mark.parametrize('name', SYSTEMS)
def test_trained_and_taken_up(name, tmp_path):
    "Two steps at once, or one and another: the same weights, and not those of the start"
    b = fss.benchmark('toy', n_train=120, n_test=20)
    how = dict(recipe=fss.recipe(f'{name}-toy', options=NARROW[name]), fold=0, steps=2, batch=2, progress=False)
    whole, parts = make(name), make(name)
    fss.fit(whole, b, out=tmp_path/'whole', **how)
    run = fss.fit(parts, b, out=tmp_path/'parts', until=1, **how)
    again = make(name)
    fss.fit(again, b, resume=run.path, progress=False)
    for (k, a), c in zip(whole.state_dict().items(), again.state_dict().values()):
        assert torch.equal(a, c), k
    assert any(not torch.equal(a, b) for a, b in zip(whole.parameters(), make(name).parameters()))


@pytest.mark.parametrize('name', SYSTEMS)
def test_an_empty_support_is_answered(name):
    "Nothing outlined, everything outlined, everything void: numbers, in logits, losses and the trace"
    m = make(name)
    for value in (0, 1, 255):
        ep = noise_episode(1, 1, 1, size=(33, 40))
        ep.support_masks.fill_(value)
        with torch.no_grad():
            assert m(ep).isfinite().all()
            assert all(t.isfinite().all() for t in m.trace(ep).values() if t.is_floating_point())


def test_finetuning_does_not_encode():
    "CRCNet's steps on the support run the head alone, and leave the model as it was"
    m, ep = make('crcnet', k_shot='finetune', ft_steps=3), noise_episode(2, 1, 3)
    before, calls = {k: v.clone() for k, v in m.state_dict().items()}, []
    m.backbone.register_forward_hook(lambda *_: calls.append(1))
    with torch.inference_mode():
        f_query, f_support = m.encode_episode(ep)
        assert len(calls) == 1
        tuned = m.decode(f_query, f_support, ep.support_masks, ep.size)
    assert len(calls) == 1 and all(torch.equal(before[k], v) for k, v in m.state_dict().items())
    plain = fss.create_model('crcnet', backbone='tiny', **{**m.cfg.__dict__, 'ft_steps': 0})
    plain.load_state_dict(m.state_dict())
    with torch.no_grad():
        assert (tuned-plain.decode(f_query, f_support, ep.support_masks, ep.size)).abs().max() > 1e-6


def test_one_shot_has_nothing_to_finetune_on():
    ep = noise_episode(1, 1, 1)
    a, b = make('crcnet', k_shot='finetune+fuse'), make('crcnet')
    with torch.no_grad():
        assert (a(ep)-b(ep)).abs().max() < 1e-5


def test_segmenter_takes_any_system():
    g = torch_rng('pictures')
    pics = [torch.randint(0, 256, (60, 80, 3), generator=g, dtype=torch.uint8).numpy() for _ in range(3)]
    mask = (torch.rand(60, 80, generator=g) > .5).numpy()
    for name in SYSTEMS:
        result = fss.Segmenter(make(name)).set_support(pics[:2], masks=[mask, mask]).predict(pics[2])
        assert result.mask.shape == (60, 80), name


SEEDED = ('imr_hsnet', 'imr_pfenet')


@pytest.mark.parametrize('name', SEEDED)
def test_coarse_masks_are_listened_to(name):
    "Another coarse mask of the query, or of the support, is another answer; the laws of ways and batches hold with them too"
    m = make(name, pretrained='toy')
    for p in m.gru.parameters():
        torch.nn.init.normal_(p, std=.3)
    ep = coarse_episode(fss.toy_episode(seed=2, ways=2, batch=2), .5)
    hard = {k: (getattr(ep, k) > .5).float() for k in ('query_seeds', 'support_seeds')}     # to the official mode soft is nothing
    ep = replace(ep, **hard)
    with torch.no_grad():
        out = m(ep)
        for field in hard:
            assert (m(replace(ep, **{field: 1-hard[field]}))-out).abs().max() > 1e-4, field
        assert (m(ep[1])-out[1:]).abs().max() < 1e-4*out.abs().max()
        turned = replace(ep, **{k: getattr(ep, k).flip(1) for k in ('support_imgs', 'support_masks', 'support_seeds', 'query_seeds')})
        assert (m(turned)[:, 1:].flip(1)-out[:, 1:]).abs().max() < 1e-4*out.abs().max()


@pytest.mark.parametrize('name', SEEDED)
def test_no_support_is_the_query_as_its_own(name):
    m, ep = make(name, pretrained='toy'), coarse_episode(fss.toy_episode(seed=2), .5)
    own = replace(ep, support_imgs=ep.query_img[:, None, None], support_seeds=ep.query_seeds[:, :, None])
    with torch.no_grad():
        assert (m(without_support(ep))-m(own)).abs().max() < 1e-4
    with pytest.raises(fss.ShapeError, match='neither a support picture nor a coarse mask'):
        m(without_support(fss.toy_episode(seed=2)))


@pytest.mark.parametrize('name', SEEDED)
def test_empty_and_full_coarse_masks_are_answered(name):
    "An empty activation map, one that is everywhere, and odd sizes: numbers, in logits and gradients"
    m = make(name)
    for value in (0., 1.):
        ep = coarse_episode(noise_episode(1, 1, 1, size=(33, 40)), .5)
        ep = replace(ep, support_seeds=torch.full_like(ep.support_seeds, value), query_seeds=torch.full_like(ep.query_seeds, value))
        losses = m.losses(ep)
        losses['total'].backward()
        assert all(v.isfinite() for v in losses.values())
        assert all(p.grad is None or p.grad.isfinite().all() for p in m.parameters())


def test_hsnet_needs_a_support_and_room():
    m = make('hsnet')
    with pytest.raises(fss.ShapeError, match='found no support picture'):
        m(without_support(fss.toy_episode()))
    with pytest.raises(fss.ShapeError, match='32'):
        m(noise_episode(1, 1, 1, size=(31, 40)))
