"A small project in the shape of this one, for the tests of the tools"
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CARD = '| | |\n|---|---|\n| in | a |\n| out | b |\n| source | ours |\n| used by | c |'


def cell(source, outputs=(), kind='code', **more):
    base = {'cell_type': kind, 'id': f'c{abs(hash(source)) % 10**8}', 'metadata': {}, 'source': source.splitlines(keepends=True)}
    return {**base, **({'execution_count': None, 'outputs': list(outputs)} if kind == 'code' else {}), **more}


def said(text):
    "A stored output that is text"
    return {'output_type': 'stream', 'name': 'stdout', 'text': text.splitlines(keepends=True)}


def write_book(path, cells):
    kernel = {'kernelspec': {'display_name': 'python3', 'language': 'python', 'name': 'python3'}}
    path.write_text(json.dumps({'cells': cells, 'metadata': kernel, 'nbformat': 4, 'nbformat_minor': 5}, indent=1)+'\n')


def book(module, *exported, card=CARD):
    "Cells of a notebook in order"
    head = [cell(f'# {module}', kind='markdown'), cell(f'#| default_exp {module}'), cell(card, kind='markdown')]
    return head+[cell(f'#| export\n{code}') for code in exported]


@pytest.fixture
def small(tmp_path):
    "A project with two notebooks and their modules, in order"
    root = tmp_path/'small'
    (root/'nbs').mkdir(parents=True); (root/'fss_nb'/'data').mkdir(parents=True)
    (root/'settings.ini').write_text((ROOT/'settings.ini').read_text())
    write_book(root/'nbs'/'00_core.ipynb', book('core', 'def one(): return 1'))
    write_book(root/'nbs'/'10_data.toy.ipynb', book('data.toy', 'from fss_nb.core import one', 'def two(): return one()+one()'))
    (root/'fss_nb'/'__init__.py').write_text('__version__ = "0.1.0"\n')
    (root/'fss_nb'/'data'/'__init__.py').touch()
    (root/'fss_nb'/'core.py').write_text("__all__ = ['one']\ndef one(): return 1\n")
    (root/'fss_nb'/'data'/'toy.py').write_text("__all__ = ['two']\nfrom ..core import one\ndef two(): return one()+one()\n")
    return root
