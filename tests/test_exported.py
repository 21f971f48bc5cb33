"Export-and-diff, README and pre-commit hook, tried on a small project"
import base64
import json
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT, book, cell, write_book

nbdev = pytest.importorskip('nbdev')
import exported  # noqa: E402
import readme  # noqa: E402


@pytest.fixture
def fresh(small):
    "The small project as its notebooks export it"
    subprocess.run([sys.executable, '-c', 'from nbdev.doclinks import nbdev_export; nbdev_export()'], cwd=small, check=True)
    return small


def test_a_fresh_export_does_not_differ(fresh):
    assert list(exported.differences(fresh)) == []


def test_each_way_to_differ(fresh):
    toy = fresh/'fss_nb'/'data'/'toy.py'
    toy.write_text(toy.read_text()+'# by hand\n')
    (fresh/'fss_nb'/'core.py').unlink()
    (fresh/'fss_nb'/'left.py').touch()
    found = list(exported.differences(fresh))
    assert [f.split(':')[0] for f in found] == ['fss_nb/core.py', 'fss_nb/data/toy.py', 'fss_nb/left.py']
    assert 'missing' in found[0] and 'differs from its notebook' in found[1] and 'no notebook exports it' in found[2]


def test_a_changed_notebook_differs(fresh):
    write_book(fresh/'nbs'/'00_core.ipynb', book('core', 'def one(): return 2'))
    assert [f.split(':')[0] for f in exported.differences(fresh)] == ['fss_nb/core.py']


def picture(text):
    return {'output_type': 'display_data', 'metadata': {}, 'data': {'image/png': base64.b64encode(text.encode()).decode()}}


def index(root, *cells):
    write_book(root/'nbs'/'index.ipynb', [cell('# Small', kind='markdown'), *cells])
    files = readme.render(root)
    return files[root/'README.md'].decode(), files


def test_readme_shows_what_a_reader_should_see(small):
    md, files = index(small, cell('#| hide\nsecret = 1'), cell('#| echo: false\nunseen = 2', [picture('first')]),
                      cell('shown = 3', [picture('second')]))
    assert 'secret' not in md and 'unseen' not in md and '```python\nshown = 3\n```' in md
    assert files[small/'images/index_1.png'] == b'first' and '![figure 2](images/index_2.png)' in md


def test_readme_links_start_in_the_root(small):
    links = '[a](00_core.ipynb#b) [c](../fss_nb/core.py) [d](https://x.org) <img src="../settings.ini"> [e](#small)'
    md, _ = index(small, cell(links, kind='markdown'))
    assert '[a](nbs/00_core.ipynb#b) [c](fss_nb/core.py) [d](https://x.org) <img src="settings.ini"> [e](#small)' in md


def test_readme_refuses_a_dead_link(small):
    with pytest.raises(SystemExit, match='leads nowhere'):
        index(small, cell('[a](99_nothing.ipynb)', kind='markdown'))


@pytest.fixture
def repo(fresh):
    "The small project under git, with the hook in place"
    if not shutil.which('git'): pytest.skip('git is not installed')
    shutil.copytree(ROOT/'tools', fresh/'tools', ignore=shutil.ignore_patterns('__pycache__'))
    (fresh/'.gitignore').write_text('__pycache__/\n')

    def git(*args):
        return subprocess.run(['git', '-c', 'user.name=a', '-c', 'user.email=a@b', *args], cwd=fresh, capture_output=True, text=True)
    git('init', '-q'); git('add', '-A'); git('commit', '-qm', 'first')
    git('config', 'core.hooksPath', 'tools/hooks'); git('config', 'fss-nb.python', sys.executable)
    return fresh, git


def test_the_hook_cleans_what_is_committed(repo):
    root, git = repo
    path = root/'nbs'/'00_core.ipynb'
    clean = path.read_text()
    nb = json.loads(clean); nb['cells'][1].update(execution_count=7, metadata={'scrolled': True})
    nb['cells'][0]['source'] = ['# Another title']
    path.write_text(json.dumps(nb)); git('add', '-A')
    done = git('commit', '-qm', 'second')
    assert done.returncode == 0, done.stderr+done.stdout
    kept = json.loads(git('show', 'HEAD:nbs/00_core.ipynb').stdout)['cells']
    assert kept[0]['source'] == ['# Another title'] and kept[1]['execution_count'] is None and kept[1]['metadata'] == {}
    assert git('status', '--porcelain').stdout == ''


def test_the_hook_refuses_what_is_not_exported(repo):
    root, git = repo
    write_book(root/'nbs'/'00_core.ipynb', book('core', 'def one(): return 2')); git('add', '-A')
    done = git('commit', '-qm', 'second')
    assert done.returncode and 'fss_nb/core.py: differs from its notebook' in done.stdout+done.stderr
    subprocess.run([sys.executable, '-c', 'from nbdev.doclinks import nbdev_export; nbdev_export()'], cwd=root, check=True)
    done = git('commit', '-qm', 'second')                               # exported, but the module is not in the commit
    assert done.returncode and 'fss_nb/core.py: changed, but not part of this commit' in done.stdout+done.stderr
    git('add', '-A')
    assert git('commit', '-qm', 'second').returncode == 0
