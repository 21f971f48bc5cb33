"""Write the papers' own numbers of our systems into the package, in the form that `fss_nb.report.tables` reads.

    python tools/make_published.py RESULTS

RESULTS is a CSV with a line a printed number: paper,table,dataset,metric,method,is_ours,variant,backbone,supervision,way,shot,split,value,note.
Written is fss_nb/lists/published.csv, a line a printed row: one-way main results of our systems, by whichever of the papers printed them. Values stay as
they are printed, in percent. Left out: ablations, other supervision than the system's own, other metrics than miou and fbiou.
"""
import argparse
import csv
from itertools import groupby
from pathlib import Path

import fss_nb

OUT = Path(fss_nb.__file__).parent/'lists'/'published.csv'
SYSTEMS = {'PANet': 'panet', 'CANet': 'canet', 'PFENet': 'pfenet', 'SimPropNet': 'simpropnet', 'CRCNet': 'crcnet', 'APANet': 'apanet', 'HSNet': 'hsnet',
           'IMR-HSNet': 'imr_hsnet', 'IMR-PFENet': 'imr_pfenet'}
VARIANTS = {('PFENet', '+CRC (conditional + cross-reference)'): 'pfenet_crc', ('IMR-PFENet', 'IMR on PFENet'): 'imr_pfenet'}
PROTOCOLS = {'imr_hsnet': 'imr', 'imr_pfenet': 'imr', 'pfenet_crc': 'pfenet'}    # of 18_data.protocol, where it has another name than the system
COLUMNS = ('system', 'backbone', 'benchmark', 'shots', 'metric', '0', '1', '2', '3', 'mean', 'paper', 'table', 'own', 'protocol', 'note')
HEAD = ('paper', 'table', 'dataset', 'metric', 'method', 'variant', 'backbone', 'way', 'shot', 'supervision', 'is_ours')


def system_of(r):
    "The name of the system whose main result this is, or None"
    name = VARIANTS.get((r['method'], r['variant'])) or (SYSTEMS.get(r['method']) if not r['variant'] else None)
    own = 'image' if name in ('imr_hsnet', 'imr_pfenet') else 'pixel'
    return name if r['metric'] in ('miou', 'fbiou') and r['way'] == '1' and r['supervision'] == own else None


def row_of(lines):
    "The lines of one printed row as one"
    r, values = lines[0], {x['split']: x['value'] for x in lines}
    system = system_of(r)
    notes = dict.fromkeys(x['note'] for x in lines if x['note'])
    again = any(w in n for n in notes for w in ('re-run', 'reproduced'))
    protocol = r['paper'] if again else PROTOCOLS.get(system, system)
    return {**dict.fromkeys(COLUMNS, ''), **values, 'system': system, 'backbone': r['backbone'].lower(), 'benchmark': r['dataset'], 'shots': r['shot'],
            'metric': r['metric'], 'paper': r['paper'], 'table': r['table'], 'own': r['is_ours'], 'protocol': protocol, 'note': '; '.join(notes)}


def unfit(row):
    "A printed mean that its printed folds cannot have: both are rounded, so they may differ by one unit of the last digit"
    folds = [row[f] for f in '0123']
    if not all(folds): return ''
    mean = sum(map(float, folds))/4
    unit = 10.**-len(row['mean'].partition('.')[2])
    return f"printed mean {row['mean']}, its folds give {mean:.2f}" if abs(mean-float(row['mean'])) > unit+1e-9 else ''


def name_backbones(rows):
    "Where a table has no column for the backbone and all others name one and the same, it is that"
    for r in rows:
        others = {o['backbone'] for o in rows if o['system'] == r['system'] and o['backbone']}
        if not r['backbone'] and len(others) == 1:
            r['backbone'] = others.pop()
            r['note'] = '; '.join([*(n for n in r['note'].split('; ') if n not in ('', 'backbone not in table')), 'backbone as in all other tables'])


def once(rows):
    "A row that one paper prints in several tables stands once"
    kept = {}
    for r in rows:
        key = tuple(v for k, v in r.items() if k not in ('table', 'note'))
        if key in kept: kept[key]['table'] += f", {r['table']}"
        else: kept[key] = r
    return list(kept.values())


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('results', type=Path)
    with open(parser.parse_args().results, encoding='utf-8', newline='') as f: lines = [r for r in csv.DictReader(f) if system_of(r)]
    head = lambda r: tuple(r[k] for k in HEAD)
    rows = once([row_of(list(part)) for _, part in groupby(sorted(lines, key=head), head)])
    name_backbones(rows)
    for r in rows: r['note'] = '; '.join(n for n in (unfit(r), r['note']) if n)
    rows.sort(key=lambda r: (r['system'], r['benchmark'], int(r['shots']), r['metric'] != 'miou', r['backbone'], r['own'] != '1', r['paper']))
    with open(OUT, 'w', encoding='utf-8', newline='') as f:
        w = csv.DictWriter(f, COLUMNS, lineterminator='\n')
        w.writeheader(); w.writerows(rows)
    print(f"{len(rows)} rows, {sum(bool(r[c]) for r in rows for c in (*'0123', 'mean'))} numbers, {OUT.stat().st_size} bytes")
