"Every system trains on real pictures by its command, with ResNet-50 as it was born"
import json
import os
from pathlib import Path

import pytest

import fss_nb as fss
from fss_nb.report import cli

DATA = os.environ.get('FSS_NB_DATA')
real = pytest.mark.skipif(not DATA or not (Path(DATA)/'VOC2012-mini').is_dir(), reason='FSS_NB_DATA has no VOC2012-mini')


def train(words):
    with pytest.raises(SystemExit) as stop: cli.main(words.split())
    assert stop.value.code == 0


@real
@pytest.mark.parametrize('system', fss.list_models())
def test_twenty_steps(system, tmp_path, capfd):
    "At the recipe's own optimiser, augmentation and options; small pictures and batches, since this is a processor"
    coarse = '--seeds coarse-0.6' if system.startswith('imr') else ''
    train(f'train {system} --benchmark pascal5i --root {DATA}/VOC2012-mini --backbone resnet50 --pretrained none --steps 20 --batch 2 '
          f'--size 64 --out {tmp_path} --device cpu --json {tmp_path}/t.json --save-every 10 {coarse}')
    said = capfd.readouterr().out
    assert 'step 10 of 20' in said and '20 steps, last loss' in said
    wrote = json.loads((tmp_path/'t.json').read_text())
    lines = [json.loads(x) for x in open(Path(wrote['run'])/'metrics.jsonl')]
    assert len(lines) == 20 and all(abs(x['loss']) < 50 for x in lines)
    r = wrote['runs'][0]['options']['recipe']
    assert r['name'] == f'{system}-pascal5i' and r['sources']['steps'] == 'set by hand' != r['sources']['lr']
    m = fss.load(wrote['run'])
    assert m.card['checkpoint'] == 'last, step 20' and m.backbone_name == 'resnet50'
