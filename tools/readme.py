"""README.md from nbs/index.ipynb, with its figures as files in images/; needs no Quarto.

    python tools/readme.py             write them
    python tools/readme.py --check     name what is out of date; ends with 1 if anything is
"""
import re
import sys
from pathlib import Path

import nbformat
from nbconvert import MarkdownExporter

ROOT = Path(__file__).parent.parent
NOTE = '<!-- made from nbs/index.ipynb by tools/readme.py: edit the notebook -->\n\n'


def directives(source):
    return {m[1]: (m[2] or '').lower() for m in re.finditer(r'^#\|\s*(\w+):?[ \t]*(\S*)', source, re.M)}


def visible(cell):
    "The cell as a reader of the README sees it, or None"
    if cell.cell_type != 'code': return cell
    d = directives(cell.source)
    if 'hide' in d or 'default_exp' in d or d.get('include') == 'false': return None
    cell.source = re.sub(r'^(#\||%).*\n?', '', cell.source, flags=re.M).strip()
    if d.get('echo') == 'false' or 'hide_input' in d: cell.source = ''
    if d.get('output') == 'false' or 'hide_output' in d: cell.outputs = []
    return cell


def from_root(md, root):
    "Links that start in nbs/ start in the project's root; one that leads nowhere is an error"
    def move(m):
        target, hash_, part = m[2].partition('#')
        if not target or re.match(r'[a-z]+:', target): return m[0]
        path = (root/'nbs'/target).resolve()
        if not path.exists(): sys.exit(f'nbs/index.ipynb: the link {m[2]} leads nowhere')
        return m[1]+path.relative_to(root.resolve()).as_posix()+hash_+part+m[3]
    return re.sub(r'''(\]\(|(?:src|href)=["'])([^)"'\s]+)([)"'])''', move, md)


def render(root=ROOT):
    "File -> bytes: the README and the figures that it shows"
    if not (root/'nbs'/'index.ipynb').exists(): sys.exit('nbs/index.ipynb is missing; README.md is made from it')
    nb = nbformat.read(root/'nbs'/'index.ipynb', 4)
    nb.metadata['language_info'] = {'name': 'python'}       # nbdev_clean drops it; it colours the code
    nb.cells = [c for c in map(visible, nb.cells) if c is not None]
    for c in nb.cells:
        if c.cell_type == 'markdown': c.source = from_root(c.source, root)
        for o in c.get('outputs', []):
            if 'text/markdown' in o.get('data', {}): o.data['text/markdown'] = from_root(o.data['text/markdown'], root)
    md, made = MarkdownExporter().from_notebook_node(nb, resources={'output_files_dir': 'images', 'unique_key': 'index'})
    files = {}
    for i, (name, data) in enumerate(made['outputs'].items(), 1):    # figures are counted, so a new text cell renames none
        new = f'images/index_{i}{Path(name).suffix.replace(".jpeg", ".jpg")}'
        md = re.sub(rf'!\[\w*\]\({re.escape(name)}\)', f'![figure {i}]({new})', md)
        files[root/new] = data
    md = re.sub(r'```python\s*```\n*', '', md)               # cells whose input is hidden
    md = re.sub(r'\n{3,}', '\n\n', re.sub(r'[ \t]+\n', '\n', md)).strip()+'\n'
    return {root/'README.md': (NOTE+md).encode(), **files}


def main(check):
    files = render()
    stale = sorted(set((ROOT/'images').glob('index_*'))-set(files))
    if check:
        bad = [p for p, data in files.items() if not p.exists() or p.read_bytes() != data]+stale
        print('\n'.join(f'{p.relative_to(ROOT)}: out of date; run make readme' for p in bad) or 'README.md is what nbs/index.ipynb says')
        sys.exit(bool(bad))
    (ROOT/'images').mkdir(exist_ok=True)
    for p in stale: p.unlink()
    for p, data in files.items(): p.write_bytes(data)
    print(f'README.md, {len(files)-1} figures')


if __name__ == '__main__':
    main('--check' in sys.argv[1:])
