"What pip installs: all modules and weights, nothing else, and it runs from there"
import os
import re
import shutil
import subprocess
import sys
import zipfile
from configparser import ConfigParser

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

pytest.importorskip('build', reason='the package build is not installed')
pytest.importorskip('setuptools', reason='setuptools is not installed')
SOURCES = ('fss_nb', 'settings.ini', 'setup.py', 'README.md', 'LICENSE', 'MANIFEST.in', 'CITATION.cff', 'CHANGELOG.md')


@pytest.fixture(scope='module')
def settings():
    ini = ConfigParser(delimiters=['=']); ini.read(ROOT/'settings.ini')
    return ini['DEFAULT']


@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
    "The wheel, built from a copy so that nothing is left in the project"
    root = tmp_path_factory.mktemp('wheel')
    for name in SOURCES:
        copy = shutil.copytree if (ROOT/name).is_dir() else shutil.copy
        copy(ROOT/name, root/name)
    env = {k: v for k, v in os.environ.items() if k != 'PYTHONPATH'}
    done = subprocess.run([sys.executable, '-m', 'build', '--wheel', '--no-isolation', str(root)], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout+done.stderr
    for trouble in ('SetuptoolsDeprecationWarning', 'absent from'): assert trouble not in done.stdout+done.stderr
    return next((root/'dist').glob('*.whl'))


def test_it_holds_modules_weights_lists_and_nothing_else(wheel):
    names = {n for n in zipfile.ZipFile(wheel).namelist() if '.dist-info/' not in n}
    kept = [p for pattern in ('*.py', '*.safetensors', '*.json', '*.txt', '*.xz', '*.csv') for p in (ROOT/'fss_nb').rglob(pattern)]
    assert names == {p.relative_to(ROOT).as_posix() for p in kept}


def test_its_metadata(wheel, settings):
    z = zipfile.ZipFile(wheel)
    info = {n.split('.dist-info/')[1]: z.read(n).decode() for n in z.namelist() if '.dist-info/' in n}
    meta = info['METADATA']
    assert f"\nVersion: {settings['version']}\n" in meta and re.search(r'^License(-Expression)?: Apache-2.0$', meta, re.M)
    assert f"\nRequires-Python: >={settings['min_python']}\n" in meta and 'licenses/LICENSE' in info
    assert 'fss = fss_nb.report.cli:main' in info['entry_points.txt']
    needed = [line for line in meta.splitlines() if line.startswith('Requires-Dist') and 'extra ==' not in line]
    assert not [line for line in needed if any(tool in line for tool in ('nbdev', 'fastcore', 'execnb', 'pytest', 'jupyter'))]
    assert {'dev', 'demo', 'weak', 'coco', 'text'} <= {line.split()[1] for line in meta.splitlines() if line.startswith('Provides-Extra')}


def test_it_imports_from_where_it_is_unpacked(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path)
    code = '''
import importlib, pkgutil, fss_nb
for m in pkgutil.walk_packages(fss_nb.__path__, 'fss_nb.'): importlib.import_module(m.name)
print(fss_nb.__file__)
'''
    env = {**os.environ, 'PYTHONPATH': str(tmp_path)}
    done = subprocess.run([sys.executable, '-c', code], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(tmp_path/'fss_nb'/'__init__.py')


def test_four_lines_without_a_network(wheel, tmp_path):
    "The README's lines on a stranger's files; the object is found where it is"
    zipfile.ZipFile(wheel).extractall(tmp_path)
    y, x = np.mgrid[:150, :200]
    for name, cx, cy in (('cell1', 60, 50), ('cell2', 130, 90), ('slide', 140, 60)):
        disc = (x-cx)**2+(y-cy)**2 < 30**2
        noise = np.random.default_rng(cx).integers(0, 40, (150, 200, 3))
        Image.fromarray((np.where(disc[..., None], (150, 60, 120), (200, 190, 170))+noise-20).astype(np.uint8)).save(tmp_path/f'{name}.jpg')
        Image.fromarray(255*disc.astype(np.uint8)).save(tmp_path/f'{name}.png')
    lines = re.search(r'```python\n(import fss_nb as fss\nseg = .*?)```', (ROOT/'README.md').read_text(), re.S)[1]
    alone = 'import socket\ndef no(*_): raise OSError("no network")\nsocket.socket.connect = socket.getaddrinfo = no\n'
    env = {**os.environ, 'PYTHONPATH': str(tmp_path)}
    done = subprocess.run([sys.executable, '-c', alone+lines], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    answer, truth = (np.array(Image.open(tmp_path/f'{n}.png')) > 0 for n in ('slide-mask', 'slide'))
    assert answer.shape == truth.shape and (answer & truth).sum()/(answer | truth).sum() > .8
