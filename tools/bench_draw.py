"""How long from the end of a stroke to the new mask on the screen? Measured in Chromium, with the model that ships.

    python tools/bench_draw.py [--strokes 40] [--voila] [--threads 2] [--out results/draw.jsonl]
    python tools/bench_draw.py --system panet --backbone resnet50 --size 400

Another system has weights by chance: what it answers is nonsense, and takes as long. Its heat map is shown, which every stroke changes.

A stroke ends when the button goes up; the mask is there when the canvas that shows it has painted it (its `data-overlay` has grown). Both
are seen by one clock, that of the page. On top of a box over the object come boxes, scribbles and brush strokes in turn, each elsewhere and
each undone afterwards. A stroke that changes no pixel of the mask sends no new mask; it is counted as `unchanged`.
One line is added to the file, with the load of the machine before and after: on a busy machine the numbers say little.
"""
import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
from datetime import date
from pathlib import Path

import browser

ROOT = Path(__file__).parent.parent
CLOCK = """() => {
  const query = document.querySelectorAll('.fss-paper')[1];
  window.times = []; window.up = null;
  addEventListener('pointerup', () => { window.up = performance.now(); }, true);
  new MutationObserver(() => { if (window.up !== null) { times.push(performance.now()-window.up); window.up = null; } })
    .observe(query, { attributeFilter: ['data-overlay'] });
}"""
OBJECT = [(.23, .22), (.53, .61)]
WAYS = {'b': [(0, 0), (.14, .2)], 's': [(0, 0), (.08, .12), (.12, .3)], 'p': [(0, 0), (.1, .05), (.14, .2)]}


def notebook(home, a):
    "A copy of the notebook to draw in, with the model and the size that are asked for"
    nb = ROOT/'nbs'/'82c_use.try_drawing.ipynb'
    model = "'any-tiny'" if a.system == 'any-tiny' else f"fss.create_model('{a.system}', backbone='{a.backbone}')"
    words, path = f'fss.draw(model={model}, size={a.size})', Path(home)/'other'/nb.name
    text = nb.read_text().replace('fss.draw()', words)
    if words not in text: sys.exit(f'{nb}: found no fss.draw() in it, want the cell that makes the page')
    path.parent.mkdir(); path.write_text(text)
    return path


def measure(server, lab, n, heat):
    "Milliseconds of n strokes"
    pause = 3000 if heat else 1000             # an answer that takes longer counts as `unchanged`
    with browser.browser(1300, 1150) as page:
        page.goto(server.ready().page, wait_until='commit')
        if lab: browser.run_all(page)
        page.wait_for_function('[...document.querySelectorAll(".fss-paper")].filter(c => +c.dataset.picture > 0).length === 2')
        page.wait_for_timeout(3000)
        page.evaluate(CLOCK)
        paper = page.locator('.fss-paper').first
        paper.scroll_into_view_if_needed()
        browser.stroke(page, paper, OBJECT)
        page.wait_for_function('times.length > 0')
        if heat:
            page.click('[data-do="heat map"]'); page.wait_for_timeout(pause)
            page.evaluate('window.up = null; times.length = 1')
        for k in range(n):
            key, x, y = 'bsp'[k % 3], .15+.55*(.618*k % 1), .05+.6*(.414*k % 1)
            paper.focus(); page.keyboard.press(key); page.wait_for_timeout(250)
            browser.stroke(page, paper, [(x+a, y+b) for a, b in WAYS[key]])
            page.wait_for_timeout(pause)
            page.evaluate('window.up = null'); page.keyboard.press('z'); page.wait_for_timeout(pause)
        size = server.ask('[page.supports[0].pic.shape[:2], page.seg.size]')
        return page.evaluate('times')[1:], size                      # the first is the box over the object


def main():
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument('--strokes', type=int, default=40)
    ap.add_argument('--threads', type=int, default=2)
    ap.add_argument('--voila', action='store_true', help='through Voila instead of JupyterLab')
    ap.add_argument('--system', default='any-tiny', help='any-tiny, or a name of `fss.list_models()`')
    ap.add_argument('--backbone', default='resnet50', help='of another system than any-tiny')
    ap.add_argument('--size', type=int, help="pixels that the network works at; without it the model's own")
    ap.add_argument('--out', type=Path, default=ROOT/'results'/'draw.jsonl')
    args = ap.parse_args()
    if browser.missing(): sys.exit(browser.missing())
    load, serve = os.getloadavg()[0], browser.voila if args.voila else browser.lab
    with tempfile.TemporaryDirectory() as home, serve(home, notebook(home, args), OMP_NUM_THREADS=str(args.threads)) as server:
        ms, (picture, size) = measure(server, not args.voila, args.strokes, args.system != 'any-tiny')
    ms.sort()
    backbone = 'tiny-any' if args.system == 'any-tiny' else args.backbone
    row = dict(when=str(date.today()), where='Voila' if args.voila else 'JupyterLab', model=args.system, backbone=backbone, picture=picture, size=size,
               strokes=len(ms), unchanged=args.strokes-len(ms), median_ms=round(statistics.median(ms), 1), p95_ms=round(ms[-max(1, len(ms)//20+1)], 1), max_ms=round(ms[-1], 1),
               threads=args.threads, cores=os.cpu_count(), load_before=round(load, 1), load_after=round(os.getloadavg()[0], 1),
               python=platform.python_version())
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with args.out.open('a') as f: f.write(json.dumps(row)+'\n')
    print(json.dumps(row, indent=1))


if __name__ == '__main__': main()
