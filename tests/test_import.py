"Importing is silent and free, and needs nothing that is optional"
import subprocess
import sys

import pytest
from conftest import ROOT

MODULES = sorted('.'.join(p.relative_to(ROOT).with_suffix('').parts) for p in (ROOT/'fss_nb').rglob('*.py') if p.name[0] != '_')
OPTIONAL = ('skimage', 'sklearn', 'pycocotools', 'open_clip', 'ipywidgets', 'anywidget', 'traitlets', 'jupyterlab', 'voila',
            'playwright', 'onnx', 'onnxruntime', 'onnxscript', 'IPython', 'matplotlib_inline',
            'nbdev', 'fastcore', 'execnb', 'nbformat', 'pytest')
BLOCK = f'import sys; sys.modules.update(dict.fromkeys({OPTIONAL}))\n'          # an import of them fails


def fresh(code):
    "What a new Python prints on running `code`; it may not complain"
    done = subprocess.run([sys.executable, '-W', 'error::DeprecationWarning:fss_nb', '-c', code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ''
    return done.stdout


def test_the_package_is_light():
    out = fresh("import sys; old = set(sys.modules); import fss_nb; print(*sorted({m.split('.')[0] for m in set(sys.modules)-old}))")
    heavy = {'torch', 'torchvision', 'matplotlib', 'numpy', 'PIL', 'tqdm', 'typer'}
    assert not heavy & set(out.split()), out
    assert len(out.split()) < 40


def test_all_modules_are_silent_and_start_nothing():
    code = f'''
import os, importlib
before = set(os.listdir())
for m in {MODULES}: importlib.import_module(m)
import sys, threading
torch = sys.modules['torch']
assert not torch.cuda.is_initialized(), 'an import started CUDA'
assert torch.get_default_dtype() == torch.float32 and torch.is_grad_enabled()
assert threading.active_count() == 1, threading.enumerate()
assert set(os.listdir()) == before, 'an import wrote a file'
'''
    assert fresh(code) == ''


def test_all_modules_import_without_optional_packages():
    assert fresh(BLOCK+f'import importlib\nfor m in {MODULES}: importlib.import_module(m)') == ''


def test_public_names_are_there():
    names = fresh('import fss_nb; print(*getattr(fss_nb, "__all__", []))').split()
    if not names: pytest.skip('the package offers no names of its own yet')
    fresh(f'import fss_nb\nfor n in {names}: getattr(fss_nb, n)\nassert set({names}) <= set(dir(fss_nb))')


def test_no_random_state_is_touched():
    code = f'''
import random, importlib, numpy, torch
random.seed(1); numpy.random.seed(1); torch.manual_seed(1)
def state(): return random.getstate(), numpy.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
before = state()
for m in {MODULES}: importlib.import_module(m)
assert state() == before
'''
    fresh(code)

