"""Fit and test the chance that the object is there, for every trained model that ships: fss_nb/weights/presence.json.

    python tools/make_presence.py [NAME ...]     all bundled models, or these; six minutes on one core

No photograph is used. A model is asked about pictures of which half lack the object; two features of its answers are turned into a chance
(80c_use.presence) on some episodes, and the chance is tested on others. The file holds the constants, the tests, seeds, and the commit.
"""
import argparse
import json
import subprocess
import time
import warnings
from pathlib import Path

import torch

import fss_nb as fss
from fss_nb.score.absence import presence_summary, reliability
from fss_nb.use.presence import fit_calibration, watch

ROOT = Path(__file__).parent.parent
FILE = ROOT/'fss_nb'/'weights'/'presence.json'
WRITTEN = 'recipe', 'seed', 'fold', 'commit'      # of a card: which training it was


def sets(card, quick):
    "What a model is fitted on, and what it is tested on: (name, benchmark, protocol)"
    n = lambda many: 20 if quick else many
    toy, drawn = fss.benchmark('toy', n_train=400, n_test=600), fss.benchmark('procedural')
    size = card['size'][0]
    if card['benchmark'] == 'procedural':
        ask = lambda k, split, seed, many: fss.protocol('drawn', drawn, shots=k, split=split, seed=seed, episodes=n(many), negatives=.5)
        fit = [(f'drawn val, {k}-shot', drawn, ask(k, 'val', 11, many)) for k, many in ((1, 250), (5, 150))]
        test = [(f'drawn test, {k}-shot', drawn, ask(k, 'test', 12, many)) for k, many in ((1, 250), (5, 150))]
        rest = fss.protocol('even', toy, fold=0, size=size, seed=13, episodes=n(200), negatives=.5)
        return fit, [*test, ('toy fold 0, 1-shot', toy, rest)]
    own = lambda k, classes, seed: fss.protocol('even', toy, fold=card['fold'], shots=k, size=size, seed=seed, episodes=n(300), negatives=.5, **classes)
    base = dict(classes=toy.base(card['fold']))
    return ([(f'toy base classes, {k}-shot', toy, own(k, base, 11)) for k in (1, 5)],
            [(f'toy fold {card["fold"]}, {k}-shot', toy, own(k, {}, 12)) for k in (1, 5)])


def judged(name, w, c):
    "How good the chance is on other episodes, and the largest probability beside it"
    s, out = w.sightings, {}
    for what, x in (('chance', s.rescored(c.chance(w.features))), ('largest', s)):
        told, table = presence_summary(x), reliability(x.score.flatten(), s.there.flatten())
        short = lambda v: [round(float(t), 4) for t in v]
        out[what] = dict(auroc=short(told['auroc']), ap=short(told['ap']), right=short(told['exact_score']), ece=round(table.ece, 4),
                         bins=[table.count.tolist(), short(table.said), short(table.found)])
    return dict(on=name, queries=len(s), there=int(s.there.sum()), miou=round(w.miou, 4), false_area=short(told['false_area']), **out)


def calibrated(name, quick):
    m, start = fss.load(name), time.perf_counter()
    card = m.card
    m = m.folded()
    fit, test = sets(card, quick)
    asked = [watch(m, b, p) for _, b, p in fit]
    features, there = torch.cat([w.features.flatten(0, 1) for w in asked]), torch.cat([w.sightings.there.flatten() for w in asked])
    c = fit_calibration(features, there)
    return dict(card={k: card[k] for k in WRITTEN if k in card}, weights=[round(w, 4) for w in c.weights], bias=round(c.bias, 4), features=['sure', 'top'],
                fitted_on=[dict(on=n, queries=len(w.sightings), there=int(w.sightings.there.sum()), seed=p.seed, protocol_sha256=p.sha256) for (n, _, p), w in zip(fit, asked)],
                tests=[judged(n, watch(m, b, p), c) for n, b, p in test], minutes=round((time.perf_counter()-start)/60, 1))


def main(args=None):
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('names', nargs='*', default=fss.bundled_models())
    ap.add_argument('--quick', action='store_true', help='twenty episodes each, to see whether it runs')
    ap.add_argument('--out', type=Path, default=FILE)
    a = ap.parse_args(args)
    warnings.simplefilter('ignore')
    commit = subprocess.run(['git', 'describe', '--always', '--dirty', '--abbrev=12'], capture_output=True, text=True, cwd=ROOT).stdout.strip() or 'unknown'
    held = json.loads(a.out.read_text()) if a.out.exists() else {}
    for name in a.names:
        held[name] = dict(calibrated(name, a.quick), commit=commit, photographs='none')
        a.out.write_text(json.dumps(dict(sorted(held.items())), indent=1)+'\n')
        print(json.dumps(held[name]))


if __name__ == '__main__': main()
