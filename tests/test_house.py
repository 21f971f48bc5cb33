"The house check finds each fault that is planted in a small project, and nothing else"
import json

import house
import pytest
from conftest import ROOT, book, cell, said, write_book

TOY = '10_data.toy.ipynb'


def add(root, *cells, name=TOY):
    "Put cells at the end of a notebook"
    path = root/'nbs'/name
    nb = json.loads(path.read_text()); nb['cells'] += cells
    path.write_text(json.dumps(nb))


def test_the_small_project_is_in_order(small):
    assert house.check(small) == []


def test_this_project_is_in_order():
    assert house.check(ROOT) == []


CELLS = {
    'an uphill import': ('#| export\nfrom fss_nb.data.late import x', 'imports data.late (10a): reading order broken'),
    'an uphill import in play': ('from fss_nb.data.late import x', 'imports data.late (10a): reading order broken'),
    'an uphill import inside a function': ('#| export\ndef f():\n    from fss_nb.data.late import x', 'reading order broken'),
    'an uphill plain import': ('#| export\nimport fss_nb.data.late', 'imports data.late (10a): reading order broken'),
    'an uphill import of a module': ('#| export\nfrom fss_nb.data import late', 'imports data.late (10a): reading order broken'),
    'the whole package': ('import fss_nb as fss', "imports the whole package ('fss_nb')"),
    'a name from the whole package': ('#| export\nfrom fss_nb import Episode', "imports the whole package ('fss_nb')"),
    'a module that nobody writes': ('from fss_nb.data.nowhere import x', 'imports data.nowhere, which no notebook writes'),
    'a star import': ('#| export\nfrom fss_nb.core import *', 'star import of fss_nb.core'),
    'a development tool': ('#| export\nfrom fastcore.basics import patch', 'exports an import of fastcore'),
    'a long exported cell': ('#| export\n'+'x = 1\n'*40, 'exported cell of 41 lines (at most 40)'),
    'a long cell': ('x = 1\n'*41, 'cell of 41 lines (at most 40)'),
    'imports among code': ('#| export\nimport os\ndef f(): return os', 'mixes imports with other code'),
    'an export elsewhere': ('#| export core\ndef f(): pass', 'exports into another module'),
    'a cell that is not Python': ('def f(:', 'a cell that is not Python'),
    'a path in a cell': ("open('/home/somebody/x.png')", "an absolute path in a cell: '/home/somebody/x.png"),
}


@pytest.mark.parametrize('fault', CELLS)
def test_cells(small, fault):
    source, says = CELLS[fault]
    write_book(small/'nbs'/'10a_data.late.ipynb', book('data.late', 'x = 1'))
    (small/'fss_nb'/'data'/'late.py').write_text('x = 1\n')
    assert house.check(small) == []
    add(small, cell(source))
    found = house.check(small)
    assert len(found) == 1 and found[0].startswith(f'{TOY}: ') and says in found[0]


OUTPUTS = {
    'a path': (said('written to /tmp/x1/run'), "an absolute path in an output: '/tmp/x1/run'"),
    'a path in a traceback': ({'output_type': 'error', 'traceback': ['File "/Users/somebody/a.py"']}, 'an absolute path in an output'),
    'a path in a table': ({'output_type': 'display_data', 'data': {'text/html': ['<td>/root/a</td>']}}, 'an absolute path in an output'),
    'a progress bar': (said(' 40%|####      | 4/10 [00:01<00:02, 3.1it/s]'), 'a progress bar'),
    'too much': (said('x'*310_000), '303 kB of outputs (at most 300)'),
}


@pytest.mark.parametrize('fault', OUTPUTS)
def test_outputs(small, fault):
    output, says = OUTPUTS[fault]
    add(small, cell('1', [output]))
    found = house.check(small)
    assert len(found) == 1 and says in found[0]


@pytest.mark.parametrize('text', ['see https://x.org/home/page', 'a/tmp/b', 'and/or', '../tmp/x', 'image/work', '1/2'])
def test_what_is_no_absolute_path(small, text):
    add(small, cell('1', [said(text)]))
    assert house.check(small) == []


def test_pictures_are_not_read_as_text(small):
    add(small, cell('1', [{'output_type': 'display_data', 'data': {'image/png': 'AAA /tmp/x'}}]))
    assert house.check(small) == []


def test_magics_are_python_enough(small):
    add(small, cell('%matplotlib inline\nx = !ls\n!echo hi'), cell('%%time\nwhatever this: is'), cell("print('x=%d' % 3)"))
    assert house.check(small) == []


def rename(a, b):
    return lambda root: (root/a).rename(root/b)


FILES = {
    'a module without a notebook': (lambda r: (r/'fss_nb'/'left.py').touch(), 'left: a module without a notebook'),
    'a notebook without its module': (lambda r: (r/'fss_nb'/'core.py').unlink(), 'core: a notebook without its module'),
    'a name made twice': (lambda r: (r/'fss_nb'/'data'/'toy.py').write_text("__all__ = ['one']\n"), "'one', which core makes too"),
    'another file name': (rename('nbs/10_data.toy.ipynb', 'nbs/10_data.other.ipynb'), 'file name and default_exp (data.toy) disagree'),
    'no number': (rename('nbs/10_data.toy.ipynb', 'nbs/toy.ipynb'), 'toy.ipynb: is not named NN_stage.name.ipynb'),
    'a stage in the wrong tens': (rename('nbs/10_data.toy.ipynb', 'nbs/30_data.toy.ipynb'), "stage 'data' has the numbers 10 to 19"),
    'a number twice': (lambda r: write_book(r/'nbs'/'10_data.twin.ipynb', book('data.twin')), 'has the number of 10_data.toy.ipynb'),
    'a long notebook': (lambda r: add(r, *[cell('1')]*60), 'cells (at most 60)'),
    'no card': (lambda r: write_book(r/'nbs'/TOY, book('data.toy', card='| in | a |\n| out | b |')), 'lacks the line source, used by'),
    'no title': (lambda r: write_book(r/'nbs'/TOY, book('data.toy')[1:]), 'does not begin with a title'),
}


@pytest.mark.parametrize('fault', FILES)
def test_files(small, fault):
    plant, says = FILES[fault]
    plant(small)
    assert any(says in line for line in house.check(small))
