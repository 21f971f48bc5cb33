"Files that leave the house: the same numbers as the model, read by a program that knows neither the package nor PyTorch"
import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import ROOT
from test_systems import make

import fss_nb as fss
from fss_nb.core import FssError, resize_mask, to_picture
from fss_nb.score.check import noise_episode
from fss_nb.use import export

SIZE = 64
ALONE = '''import sys; sys.modules.update(dict.fromkeys(['fss_nb', 'torch', 'torchvision']))       # an import of them fails
from run import Exported, np
d = np.load('in.npz')
files = Exported('.')
support = files.encode(np.stack([files.image(p) for p in d['pics']]))
logits = files.decode(files.encode(files.image(d['query'])[None]), support, d['masks'][None])
np.savez('out.npz', logits=logits, mask=files.segment(d['query'], [d['pics']], [d['masks']]))'''


@pytest.fixture(scope='module')
def panet(tmp_path_factory):
    "The bundled PANet: two ways, any number of shots"
    m = fss.load('panet-tiny-toy')
    return m, export.export_onnx(m, tmp_path_factory.mktemp('panet'), ways=2, shots=None, size=SIZE)


@pytest.fixture(scope='module')
def any_tiny(tmp_path_factory):
    m = fss.load('any-tiny')
    return m, export.export_onnx(m, tmp_path_factory.mktemp('any'), shots=None, size=SIZE)


def check(m, folder, ways, shots, tol=1e-3):
    files = export.Exported(folder)
    for seed, K in enumerate(shots):
        gap = export.export_gap(m, files, fss.toy_episode(seed=70+seed, ways=ways, shots=K, size=SIZE))
        assert gap['largest'] > 1 and all(gap[k] <= tol for k in ('features', 'logits', 'probability')), (K, gap)
    return files


def test_any_number_of_shots(panet): check(*panet, ways=2, shots=(1, 2, 5), tol=1e-4)


def test_the_model_for_all_pictures(any_tiny): check(*any_tiny, ways=1, shots=(1, 3))


def test_masks_that_the_maker_never_saw(panet):
    "Nothing outlined, everything, void: a file made from one mask is for all"
    m, folder = panet
    files, ep = export.Exported(folder), fss.toy_episode(seed=7, ways=2, shots=2, size=SIZE)
    for v in (0, 1, 255):
        assert export.export_gap(m, files, replace(ep, support_masks=torch.full_like(ep.support_masks, v)))['logits'] < 1e-4


def test_the_order_of_shots(panet):
    _, folder = panet
    files, ep = export.Exported(folder), fss.toy_episode(seed=8, ways=2, shots=3, size=SIZE)
    def ask(order):
        imgs, masks = ep.support_imgs[0][:, order].flatten(0, 1).numpy(), ep.support_masks[0][:, order].numpy()
        return files.decode(files.encode(ep.query_img.numpy()), files.encode(imgs), masks)
    np.testing.assert_allclose(ask([2, 0, 1]), ask([0, 1, 2]), atol=1e-4)


def alone(m, folder):
    "Logits of the model, and what a Python without this package makes of the folder"
    ep = fss.toy_episode(seed=11, shots=2, size=SIZE)
    np.savez(folder/'in.npz', query=to_picture(ep.query_img[0]), pics=to_picture(ep.support_imgs[0, 0]), masks=ep.support_masks[0, 0].numpy())
    done = subprocess.run([sys.executable, '-c', ALONE], cwd=folder, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, '')
    with torch.no_grad(): return m(ep)[0].numpy(), np.load(folder/'out.npz')


def test_a_python_without_us(any_tiny):
    want, out = alone(*any_tiny)
    np.testing.assert_allclose(out['logits'], want, atol=1e-3)
    sure = abs(want[1]-want[0]) > .01
    assert sure.mean() > .9 and (out['mask'] == want.argmax(0))[sure].all()


def test_pictures_of_other_sizes(panet):
    "Colours and masks are brought to the size of the files as the package does it"
    files, g = export.Exported(panet[1]), np.random.default_rng(0)
    pic, mask = g.integers(0, 256, (SIZE, SIZE, 3), np.uint8), g.integers(0, 2, (90, 41), np.uint8)
    np.testing.assert_allclose(files.image(pic), fss.to_image(pic).numpy(), atol=1e-5)
    assert (files.mask(mask) == resize_mask(torch.from_numpy(mask), (SIZE, SIZE)).numpy()).all()
    flat = np.full((33, 150, 3), (10, 200, 90), np.uint8)
    np.testing.assert_allclose(files.image(flat), fss.to_image(flat[:1, :1]).numpy()*np.ones((1, SIZE, SIZE)), atol=1e-5)


def test_names_and_shapes(panet):
    about = json.loads((panet[1]/'export.json').read_text())
    assert (about['ways'], about['shots'], about['size']) == (2, None, [SIZE, SIZE])
    files = export.Exported(panet[1])
    for part, run in (('encode', files.encoder), ('decode', files.decoder)):
        for side, found in (('inputs', run.get_inputs()), ('outputs', run.get_outputs())):
            assert {v.name: v.shape for v in found} == about[part][side]
    assert about['decode']['outputs'] == {'logits': [1, 3, SIZE, SIZE]}


@pytest.mark.parametrize('name', fss.list_models())
def test_a_graph_for_any_mask(name, monkeypatch):
    "While a graph is made no part may look at the mask to save work; the answers stay"
    m, ep = make(name).eval(), noise_episode(2, 2, 2, (48, 64))
    with torch.no_grad():
        want = m(ep)
        monkeypatch.setattr(torch.compiler, 'is_compiling', lambda: True)
        got = m(ep)
    assert (got-want).abs().max() <= 1e-4*max(1, want.abs().max())


def solve(A, b):
    import onnxruntime
    class Solve(torch.nn.Module):
        def forward(self, A, b): return torch.linalg.solve(A, b)
    with torch.no_grad(): model = export._onnx(torch.export.export(Solve(), (A, b), strict=False), ['A', 'b'], ['x'])
    run = onnxruntime.InferenceSession(model.model_proto.SerializeToString(), providers=['CPUExecutionProvider'])
    return torch.from_numpy(run.run(None, {'A': A.numpy(), 'b': b.numpy()})[0])


@pytest.mark.parametrize('lead, n', [((), 1), ((2, 3), 33)])
def test_solver(lead, n):
    "Against the solver of LAPACK in double precision; diagonals of very different size"
    torch.manual_seed(0)
    X = torch.randn(*lead, 2*n, n)*torch.logspace(-2, 1, n)
    A, b = X.mT @ X+1e-4*torch.eye(n), torch.randn(*lead, n)
    want = torch.linalg.solve(A.double(), b.double())
    torch.testing.assert_close(solve(A, b).double(), want, rtol=1e-3, atol=1e-3*want.abs().max().item())


def test_letters_for_dots():
    f, w = torch.randn(2, 3, 4, 5, 5), torch.randn(3, 5, 5)
    for eq, args in (('...chw,...hw->...c', (f, w)), ('mnc,mnhw->mchw', (torch.randn(2, 3, 4), torch.randn(2, 3, 5, 5)))):
        torch.testing.assert_close(torch.einsum(export._spelt(eq, [t.ndim for t in args]), *args), torch.einsum(eq, *args))
    assert '.' not in export._spelt('...chw,...hw->...c', (6, 6))


def says(f, *words):
    with pytest.raises(FssError) as e: f()
    assert '\n' not in str(e.value) and all(w in str(e.value) for w in words), str(e.value)


def test_sentences(panet, tmp_path, monkeypatch):
    m, folder = panet
    says(lambda: export.export_onnx(make('panet'), tmp_path), 'panet knows no size', 'pass size=')
    says(lambda: export.export_onnx(m, tmp_path, ways=0), 'found ways=0')
    says(lambda: export.export_programs(make('crcnet', k_shot='finetune'), shots=3, size=SIZE), 'trained in every episode', "k_shot='fuse'")
    says(lambda: export.export_programs(make('pfenet'), shots=None, size=SIZE), 'decode of pfenet takes one shot after the other', 'give shots')
    says(lambda: export.Exported(folder).decode({}, {}, np.zeros((1, 3, SIZE, SIZE))), 'found 1 ways of 3 shots', 'want 2 of any number')
    for package in ('onnx', 'onnxscript'):
        with monkeypatch.context() as mp:
            mp.setitem(sys.modules, package, None)
            says(lambda: export.export_onnx(m, tmp_path, size=SIZE), f'found no {package}', "pip install 'fss_nb[export]'")
    monkeypatch.setitem(sys.modules, 'onnxruntime', None)
    says(lambda: export.Exported(folder), 'found no onnxruntime', "pip install 'fss_nb[export]'")
    assert not list(tmp_path.iterdir())                                      # nothing half written


def test_the_model_stays_as_it_is():
    m = fss.load('panet-tiny-toy').train()
    before = {k: v.clone() for k, v in m.state_dict().items()}
    export.export_programs(m, size=SIZE)
    assert m.training and all(torch.equal(v, before[k]) for k, v in m.state_dict().items())
    assert any(p.requires_grad for p in m.parameters())


def test_the_table():
    "Every system is in it, and what failed says why"
    lines = [json.loads(l) for l in (ROOT/'results'/'export.jsonl').read_text().splitlines()]
    assert {l['system'] for l in lines} == set(fss.list_models())
    for l in lines:
        assert l['ok'] and l['gap'] <= 1e-3 or l['reason'], l
    ours = [l for l in lines if l['weights'] == 'any-tiny']
    assert {(l['part'], l['way'], l['shots']) for l in ours if l['ok']} >= {(p, 'onnx', s) for p in ('encode', 'decode') for s in (1, None)}
