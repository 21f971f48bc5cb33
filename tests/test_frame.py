"The files around the package agree with each other"
import re
import subprocess
import sys
from configparser import ConfigParser

import pytest
from conftest import ROOT


def text(name): return (ROOT/name).read_text(encoding='utf-8')


def test_one_version():
    ini = ConfigParser(delimiters=['=']); ini.read(ROOT/'settings.ini')
    version = ini['DEFAULT']['version']
    assert f'\nversion: {version}\n' in text('CITATION.cff')
    assert re.search(r'^## (\S+)', text('CHANGELOG.md'), re.M)[1] == version
    assert f'__version__ = "{version}"' in text('fss_nb/__init__.py')


@pytest.mark.parametrize('name', ['README.md', 'CONTRIBUTING.md', '.ci/run'])
def test_what_the_texts_tell_to_make_exists(name):
    targets = set(re.findall(r'^(\w+):', text('Makefile'), re.M))
    told = set(re.findall(r'(?:^|`| {4})make (?:\w+=\S+ )*([a-z]\w*)', text(name), re.M))
    assert told <= targets


def test_the_pins_of_nbdev_are_in_one_place():
    files = ('settings.ini', 'CONTRIBUTING.md', 'README.md', 'Makefile')
    named = [line for name in files for line in text(name).splitlines() if 'nbdev==' in line]
    assert len(named) == 1 and 'execnb<0.2' in named[0] and 'fastcore<2' in named[0]


def test_an_old_python_is_refused_in_one_line(tmp_path):
    code = "import sys; sys.version_info = (3, 8, 1); " \
           "import runpy; sys.argv = ['environment.py', sys.argv[1]]; runpy.run_path('tools/environment.py', run_name='__main__')"
    done = subprocess.run([sys.executable, '-c', code, str(tmp_path/'new')], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode and done.stderr.startswith('fss_nb needs Python 3.10 or newer, found 3.8.1') and done.stderr.count('\n') == 1
    assert not (tmp_path/'new').exists()


def test_a_folder_that_is_no_environment_is_left_alone(tmp_path):
    (tmp_path/'mine').mkdir(); (tmp_path/'mine'/'thesis.tex').touch()
    done = subprocess.run([sys.executable, 'tools/environment.py', str(tmp_path/'mine')], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode and 'not a virtual environment' in done.stderr
    assert [p.name for p in (tmp_path/'mine').iterdir()] == ['thesis.tex']
