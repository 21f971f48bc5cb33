"The learner of HSNet against numbers recorded from the authors' program; skipped where FSS_NB_DATA does not lie beside the recordings"
import json
import os
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch.nn import functional as F

from fss_nb.core import resize
from fss_nb.decode.squeeze import HPNLearner

FIXTURES = Path(os.environ.get('FSS_NB_DATA', 'none')).parent/'fixtures'
STAGES = ('encoder_layer4', 'encoder_layer3', 'encoder_layer2', 'encoder_layer4to3', 'encoder_layer3to2')
CASES = {'r50': (3, 6, 4), 'vgg16': (1, 3, 3)}
TOLERANCE = 1e-4
pytestmark = pytest.mark.skipif(not (FIXTURES/'hsnet').exists(), reason='no recordings beside FSS_NB_DATA')


def off(found, recorded): # largest error against the largest number
    return ((found.detach().double()-recorded.double()).abs().max()/recorded.abs().max().clamp_min(1e-9)).item()


@pytest.fixture(scope='module', params=CASES)
def case(request):
    "Learner with the recorded weights, the recordings, what it made of the recorded correlations"
    name = request.param
    sys.path.insert(0, str(FIXTURES))
    import refinit
    sys.path.remove(str(FIXTURES))
    drawn, m = json.loads((FIXTURES/'hsnet'/'drawn.json').read_text()), HPNLearner(CASES[name])
    own = {f'{name}/hpn_learner.{k}': list(p.shape) for k, p in m.named_parameters()}
    assert own == {k: v for k, v in drawn['drawn'].items() if k.startswith(f'{name}/hpn_learner.')}
    refinit.fill_(m, drawn['seed'], f'{name}/hpn_learner.')
    with safe_open(FIXTURES/'hsnet'/'io.safetensors', 'pt') as f:
        rec = {k.removeprefix(f'{name}/'): f.get_tensor(k) for k in f.keys() if k.startswith(f'{name}/') and '_f16' not in k}
    seen = {}
    for stage in (*STAGES, 'decoder1'):
        getattr(m, stage).register_forward_hook(lambda _, x, y, stage=stage: seen.__setitem__(stage, y))
    corrs = {s: rec[f'corr_l{s[-1]}'] for s in ('layer4', 'layer3', 'layer2')}
    seen['logits_learner'] = m(corrs)
    seen['logits'] = resize(seen['logits_learner'], rec['masks_u8'].shape[1:], corners=True)
    truth = rec['masks_u8'][:len(seen['logits'])].long()
    seen['loss'] = F.cross_entropy(seen['logits'], truth)
    seen['loss'].backward()
    return m, rec, corrs, seen


@pytest.mark.parametrize('stage', (*STAGES, 'decoder1', 'logits_learner', 'logits', 'loss'))
def test_every_stage_is_as_recorded(case, stage):
    m, rec, corrs, seen = case
    found = seen[stage].mean((4, 5), keepdim=True) if seen[stage].ndim == 6 else seen[stage]
    assert off(found, rec[stage]) < TOLERANCE
    if f'{stage}_f64' in rec: assert off(found, rec[f'{stage}_f64']) < TOLERANCE


def test_neck_returns_what_the_authors_call_encoded(case):
    m, rec, corrs, seen = case
    assert off(m.neck(corrs), rec['encoded']) < TOLERANCE


def test_gradients_are_as_recorded(case):
    m, rec, corrs, seen = case
    whole = {k: p.grad for k, p in m.named_parameters() if f'grad/hpn_learner.{k}' in rec}
    assert len(whole) == 13
    for k, g in whole.items(): assert off(g, rec[f'grad/hpn_learner.{k}']) < TOLERANCE, k
    for k, p in m.named_parameters():
        g = p.grad.double()
        found = torch.stack([g.norm(), g.sum(), g.abs().max(), g.min(), g.max()])
        assert off(found, rec[f'gradstat/hpn_learner.{k}']) < TOLERANCE, k


def test_a_budget_changes_nothing(case):
    m, rec, corrs, seen = case
    lean = HPNLearner([corrs[s].shape[1] for s in ('layer4', 'layer3', 'layer2')], budget=50_000)
    lean.load_state_dict(m.state_dict())
    y = lean(corrs)
    assert off(y, rec['logits_learner_f64']) < TOLERANCE
    F.cross_entropy(resize(y, rec['masks_u8'].shape[1:], corners=True), rec['masks_u8'][:len(y)].long()).backward()
    grads = {k: p.grad for k, p in lean.named_parameters()}
    for k in rec:
        if k.startswith('grad/'): assert off(grads[k.removeprefix('grad/hpn_learner.')], rec[k]) < TOLERANCE, k
