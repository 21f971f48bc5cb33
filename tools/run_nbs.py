"""Execute notebooks in place and keep their outputs small and clean, or check that they are up to date.

    python tools/run_nbs.py [nbs/00_core.ipynb ...]     run (all without arguments)
    python tools/run_nbs.py --check                     no notebook's code differs from what was last executed

Figures of cells that are marked `#| real` show pictures of other people's data sets: you see them when you run the cell, and they are not kept.
"""
import argparse
import hashlib
import os
import re
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbdev.clean import clean_nb
from nbdev.config import get_config

LIVE = 'application/vnd.jupyter.widget-view+json'  # a live widget without its kernel shows only an error


def directives(src):
    return {m[1]: m[2] for m in re.finditer(r'^\s*#\s*\|\s*(\w+)(?::[ \t]*(\S*))?', src, re.M)}


def is_picture(output): return any(k.startswith('image/') for k in output.get('data', {}))


def digest(nb):
    "Hash of the code cells in order: what decides the outputs"
    code = '\0'.join(c.source for c in nb.cells if c.cell_type == 'code')
    return hashlib.sha256(code.encode()).hexdigest()[:16]


class Client(NotebookClient):
    "Skips the cells that a plain test run skips, and keeps their stored outputs"
    skip = frozenset()

    async def async_execute_cell(self, cell, cell_index, **kw):
        found = directives(cell.source) if cell.cell_type == 'code' else {}
        if self.skip & set(found) or found.get('eval') == 'false':
            return cell
        return await super().async_execute_cell(cell, cell_index, **kw)


def run(path, skip, timeout):
    nb = nbformat.read(path, 4)
    client = Client(nb, timeout=timeout, kernel_name='python3', resources={'metadata': {'path': str(path.parent)}})
    client.skip, client.extra_arguments = skip, ['--log-level=ERROR']
    client.execute()
    nb.metadata.pop('widgets', None)
    nb.metadata.pop('language_info', None)
    for cell in nb.cells:
        if cell.cell_type == 'code':
            real = 'real' in directives(cell.source)
            cell.outputs = [o for o in cell.outputs if LIVE not in o.get('data', {}) and not (real and is_picture(o))]
    nb.metadata['executed'] = digest(nb)
    clean_nb(nb, allowed_metadata_keys=['executed'])
    nbformat.write(nb, path)


def check(paths):
    bad = []
    for p in paths:
        nb = nbformat.read(p, 4)
        if nb.metadata.get('executed') != digest(nb):
            bad.append(f'{p}: the code changed since it was last executed; run tools/run_nbs.py {p}')
        if any(o.output_type == 'error' for c in nb.cells if c.cell_type == 'code' for o in c.outputs):
            bad.append(f'{p}: holds an error output')
    return bad


def main():
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument('paths', nargs='*', type=Path)
    ap.add_argument('--flags', default='', help='run these skipped cells too, e.g. "slow gpu"')
    ap.add_argument('--timeout', type=int, default=600)
    ap.add_argument('--check', action='store_true')
    a = ap.parse_args()
    cfg = get_config()
    found = sorted(p for p in cfg.nbs_path.glob('*.ipynb') if p.name[0] not in '._')
    paths = a.paths or [Path(os.path.relpath(p)) for p in found]
    if a.check:
        bad = check(paths)
        print('\n'.join(bad) or f'{len(paths)} notebooks are as they were executed')
        sys.exit(bool(bad))
    os.environ.setdefault('TQDM_DISABLE', '1')           # no progress bar is kept
    skip = frozenset(cfg.tst_flags.split()) - set(a.flags.split())
    for p in paths:
        t = time.perf_counter()
        run(p, skip, a.timeout)
        print(f'{p}  {time.perf_counter()-t:.0f} s  {p.stat().st_size//1024} kB', flush=True)


if __name__ == '__main__':
    main()
