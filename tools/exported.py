"""The export-and-diff check: every module is what its notebook exports, and nothing else is in the package.

    python tools/exported.py           names each module that differs; ends with 1 if there is any

The notebooks are exported into a temporary folder, so nothing here is changed and uncommitted work is compared as it stands.
"""
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PKG = 'fss_nb'
ROOT = Path(__file__).parent.parent


def export(root, into):
    "A fresh export of the notebooks of `root`, in the folder `into`"
    shutil.copy(root/'settings.ini', into)
    shutil.copytree(root/'nbs', into/'nbs', ignore=shutil.ignore_patterns('.*', '_*'))
    (into/PKG).mkdir()
    shutil.copy(root/PKG/'__init__.py', into/PKG)
    env = {k: v for k, v in os.environ.items() if k != 'IN_TEST'}         # nbdev exports nothing where this is set
    code = 'from nbdev.doclinks import nbdev_export; nbdev_export()'
    done = subprocess.run([sys.executable, '-c', code], cwd=into, env=env, capture_output=True, text=True)
    if done.returncode: sys.exit(f'nbdev_export failed:\n{done.stderr}')


def hashes(pkg):
    "Module file -> hash of its text, line ends aside"
    files = (p for p in pkg.rglob('*.py') if '__pycache__' not in p.parts)
    return {p.relative_to(pkg).as_posix(): hashlib.sha256(p.read_text(encoding='utf-8').encode()).hexdigest() for p in files}


def differences(root=ROOT):
    "One line for each module that is not what the notebooks export"
    with tempfile.TemporaryDirectory() as tmp:
        export(Path(root), Path(tmp))
        want, have = hashes(Path(tmp)/PKG), hashes(Path(root)/PKG)
    for f in sorted(want.keys() | have.keys()):
        if f not in have: yield f'{PKG}/{f}: missing; run nbdev_export'
        elif f not in want: yield f'{PKG}/{f}: no notebook exports it; remove it, or write its notebook'
        elif want[f] != have[f]: yield f'{PKG}/{f}: differs from its notebook; edit the notebook, then run nbdev_export'


if __name__ == '__main__':
    bad = list(differences())
    print('\n'.join(bad) or f'{PKG} is what the notebooks export')
    sys.exit(bool(bad))
