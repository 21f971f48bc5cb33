"""What the pre-commit hook does: cleans the notebooks of the commit, and refuses it where a module does not follow its notebook."""
import subprocess
import sys
from pathlib import Path

import exported

ROOT = Path(__file__).parent.parent


def git(*args):
    "Lines of what git says"
    return subprocess.run(['git', *args], cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()


def clean(staged):
    "Clean notebooks, and stage them again where that changed them"
    from nbdev.clean import nbdev_clean
    half = set(git('diff', '--name-only', '--', 'nbs')) & set(staged)
    if half: return [f'{p}: only a part of it is staged; git add it, or stash the rest' for p in sorted(half)]
    for p in staged: nbdev_clean.__wrapped__(fname=str(ROOT/p))
    changed = git('diff', '--name-only', '--', *staged)
    if changed: git('add', '--', *changed)
    return []


def main():
    staged = git('diff', '--cached', '--name-only', '--diff-filter=ACMR', '--', 'nbs/*.ipynb')
    bad = clean(staged) if staged else []
    bad += exported.differences(ROOT)
    loose = git('diff', '--name-only', '--', exported.PKG)+git('ls-files', '--others', '--exclude-standard', '--', exported.PKG)
    if staged: bad += [f'{p}: changed, but not part of this commit; git add it' for p in loose]
    print('\n'.join(bad), end='\n' if bad else '')
    sys.exit(bool(bad))


if __name__ == '__main__':
    main()
