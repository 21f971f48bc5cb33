"""The house check: one notebook a module, imports point to smaller numbers, budgets hold.

    python tools/house.py [FOLDER]     one line for each thing out of order; ends with 1 if there is any

Needs nothing but Python, so that it runs before anything is installed.
"""
import ast
import json
import re
import sys
from pathlib import Path

PKG = 'fss_nb'
CELLS, LINES, OUTPUT_KB = 60, 40, 300          # budgets: cells a notebook, lines a cell, stored outputs
STAGES = {'data': (10, 19), 'features': (20, 29), 'compare': (30, 39), 'decode': (40, 44), 'refine': (45, 49), 'score': (50, 59),
          'train': (60, 69), 'papers': (70, 79), 'use': (80, 84), 'report': (85, 89), 'lab': (90, 99)}
DEV_ONLY = {'fastcore', 'nbdev', 'execnb', 'IPython', 'pytest'}
CARD = ('in', 'out', 'source', 'used by')
WHOLE = 80                                     # from this number on a reader may see the whole package at once: import fss_nb as fss
ABSOLUTE = re.compile(r'''(?<![\w.~/])/(?:tmp|home|root|work|Users|opt|mnt|private|var/folders)/\w|\b[A-Z]:\\\\?Users''')
BAR = re.compile(r'\d%\|.*\|.*\d+/\d+')


def check(root='.'):
    "Everything that is out of order in the project at `root`, one line each"
    root, bad = Path(root), []
    books = [Notebook(p) for p in sorted((root/'nbs').glob('*.ipynb')) if p.name[0] not in '._']
    number = _numbers(books, bad)
    for nb in books:
        bad += [f'{nb.path.name}: {line}' for check_one in (_shape, _cells, _imports, _outputs) for line in check_one(nb, number)]
    bad += _modules(root/PKG, number)
    return bad


class Notebook:
    "A notebook as the checks see it: its number, its module, its code with the directives of each cell"

    def __init__(self, path):
        self.path = path
        self.cells = json.loads(path.read_text(encoding='utf-8'))['cells']
        self.sources = [''.join(c['source']) for c in self.cells]
        self.code = [(c, s) for c, s in zip(self.cells, self.sources) if c['cell_type'] == 'code']
        name = re.fullmatch(r'(\d\d)([a-z]*)_((?:\w+\.)?\w+)', path.stem)
        self.number = (int(name[1]), name[2]) if name else None
        self.name = name[3] if name else None
        found = [m[1] for _, s in self.code for m in re.finditer(r'^#\|\s*default_exp:?[ \t]+(\S+)', s, re.M)]
        self.module, self.modules = (found[0] if found else None), found

    def exported(self):
        return [s for _, s in self.code if _is_export(s)]


def _is_export(source):
    return re.search(r'^#\|\s*exports?i?\b', source, re.M) is not None


def _numbers(books, bad):
    "Module -> number of its notebook; each number and each module once"
    number, seen = {}, {}
    for nb in books:
        if nb.number is None:
            if nb.path.stem != 'index': bad.append(f'{nb.path.name}: is not named NN_stage.name.ipynb')
            continue
        if nb.number in seen: bad.append(f'{nb.path.name}: has the number of {seen[nb.number]}')
        seen[nb.number] = nb.path.name
        if nb.module in number: bad.append(f'{nb.path.name}: writes {nb.module}, which another notebook writes')
        if nb.module: number[nb.module] = nb.number
    return number


def _shape(nb, number):
    "Name, stage, title, card and size of a notebook"
    if len(nb.cells) > CELLS: yield f'{len(nb.cells)} cells (at most {CELLS}); split it'
    if not nb.sources or not nb.sources[0].startswith('# '): yield 'does not begin with a title ("# ...")'
    if nb.number is None: return
    stage = nb.name.rpartition('.')[0]
    low, high = STAGES.get(stage, (0, 9) if not stage else (None, None))
    if low is None: yield f"unknown stage '{stage}'; stages: {', '.join(STAGES)}"
    elif not low <= nb.number[0] <= high: yield f"stage '{stage or 'core'}' has the numbers {low:02d} to {high:02d}"
    if nb.modules and nb.modules != [nb.name]: yield f"file name and default_exp ({', '.join(nb.modules)}) disagree"
    if not nb.module: return
    at = next(i for i, s in enumerate(nb.sources) if 'default_exp' in s)
    if len(nb.sources[at].strip().splitlines()) > 1: yield 'default_exp stands alone in its cell'
    if stage == 'papers': return               # their cards hold the reference to the paper
    card = ' '.join(nb.sources[at+1:at+2])
    missing = [w for w in CARD if not re.search(rf'^\|\s*{w}\s*\|', card, re.M)]
    if missing: yield f"the card after default_exp lacks the line {', '.join(missing)}"


def _cells(nb, number):
    "Length of cells; what an exported cell may hold"
    for _, s in nb.code:
        n, kind = len(s.splitlines()), 'exported cell' if _is_export(s) else 'cell'
        if n > LINES: yield f'{kind} of {n} lines (at most {LINES}): {_first_line(s)}'
        if re.search(r'^#\|\s*exports?i?:?[ \t]+\S', s, re.M): yield f'exports into another module: {_first_line(s)}'
        tree = _parse(s)
        if tree is None: yield f'a cell that is not Python: {_first_line(s)}'
        elif _is_export(s) and nb.module is None: yield f'exports without default_exp: {_first_line(s)}'
        elif _is_export(s) and 0 < sum(isinstance(n, (ast.Import, ast.ImportFrom)) for n in tree.body) < len(tree.body):
            yield f'an exported cell mixes imports with other code: {_first_line(s)}'


def _imports(nb, number):
    "Imports of our own package point to smaller numbers; development tools stay out of the package"
    for _, s in nb.code:
        for module, name in _imported(_parse(s)):
            top, _, rest = module.partition('.')
            if top in DEV_ONLY and _is_export(s): yield f'exports an import of {top}, a development tool'
            if top != PKG or name == '__version__': continue
            if name == '*': yield f'star import of {module}'
            target = next((t for t in (f'{rest}.{name}'.strip('.'), rest) if t in number), rest)
            if not target or (target not in number and not rest):
                if nb.number and (_is_export(s) or nb.number[0] < WHOLE):
                    yield f"imports the whole package ('{module}'); import from the module that makes the name"
            elif target not in number: yield f'imports {target}, which no notebook writes'
            elif nb.number and (number[target] > nb.number or (number[target] == nb.number and _is_export(s))):
                yield f'imports {target} ({_text(number[target])}): reading order broken'


def _imported(tree):
    "(module, name) of every import, wherever it stands; name is '' for a plain import"
    for n in ast.walk(tree) if tree else ():
        if isinstance(n, ast.Import): yield from ((a.name, '') for a in n.names)
        elif isinstance(n, ast.ImportFrom): yield from ((PKG if n.level else n.module, a.name) for a in n.names)


def _outputs(nb, number):
    "Stored outputs are small and say nothing about the machine they were made on"
    kb = sum(len(json.dumps(c.get('outputs', []))) for c, _ in nb.code)/1024
    if kb > OUTPUT_KB: yield f'{kb:.0f} kB of outputs (at most {OUTPUT_KB})'
    for c, s in nb.code:
        for text in map(str, _texts(c.get('outputs', []))):
            if (found := _absolute(text)): yield f"an absolute path in an output: '{found}' under {_first_line(s)}"
            if BAR.search(text): yield f'a progress bar in an output under {_first_line(s)}'
    for s in nb.sources:
        if (found := _absolute(s)): yield f"an absolute path in a cell: '{found}'"


def _absolute(text):
    "The beginning of the first absolute path in a text, or None"
    m = ABSOLUTE.search(text)
    return m and text[m.start():m.start()+30].splitlines()[0]


def _texts(outputs):
    "Every piece of text among stored outputs; pictures in base64 are left out"
    for o in outputs:
        data = [v for k, v in o.get('data', {}).items() if k not in ('image/png', 'image/jpeg')]
        for v in [o.get('text', ''), *(o.get('traceback') or []), *data]: yield ''.join(v) if isinstance(v, list) else v


def _modules(pkg, number):
    "Notebooks and modules answer each other, and no public name is made twice"
    made_by_hand = ('__init__.py', '_modidx.py')
    files = {'.'.join(p.relative_to(pkg).with_suffix('').parts): p for p in sorted(pkg.rglob('*.py')) if p.name not in made_by_hand}
    yield from (f'{m}: a module without a notebook' for m in files if m not in number)
    yield from (f'{m}: a notebook without its module; run nbdev_export' for m in sorted(number) if m not in files)
    made = {}
    for m, p in files.items():
        for name in _all(ast.parse(p.read_text(encoding='utf-8'))):
            if name in made: yield f"{m}: makes the public name '{name}', which {made[name]} makes too"
            made.setdefault(name, m)


def _all(tree):
    return next((ast.literal_eval(n.value) for n in tree.body if isinstance(n, ast.Assign)
                 and any(isinstance(t, ast.Name) and t.id == '__all__' for t in n.targets)), [])


def _parse(source):
    "The syntax tree of a cell without its magics, None where it is not Python"
    plain = re.sub(r'^(\s*)[%!].*', r'\1pass', source, flags=re.M)
    for text in (source, plain, re.sub(r'=\s*[%!].*', '= None', plain)):
        try: return ast.parse('' if source.lstrip().startswith('%%') else text)
        except SyntaxError: pass


def _first_line(source):
    lines = [line for line in source.splitlines() if line.strip() and not line.startswith('#|')] or ['']
    return f"'{lines[0].strip()[:50]}'"


def _text(number):
    return f'{number[0]:02d}{number[1]}'


if __name__ == '__main__':
    root = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent.parent)
    bad = check(root)
    print('\n'.join(bad) or f"the house is in order: {len(list((root/'nbs').glob('[!._]*.ipynb')))} notebooks")
    sys.exit(bool(bad))
