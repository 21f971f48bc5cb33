"The command line as people and programs use it: every command, its files, its exit code"
import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fss_nb as fss
from fss_nb.data.toy import toy_scene
from fss_nb.report import cli

COMMANDS = {'doctor', 'data', 'models', 'predict', 'eval', 'train', 'bench', 'demo'}
DATA = os.environ.get('FSS_NB_DATA')
real = pytest.mark.skipif(not DATA, reason='FSS_NB_DATA is not set: no real pictures to run on')


@pytest.fixture
def run(capfd, monkeypatch, tmp_path):
    "A command in a folder of its own -> (exit code, what it said, what it complained)"
    monkeypatch.chdir(tmp_path)

    def call(line):
        with pytest.raises(SystemExit) as stop:
            cli.main(line.split())
        return (stop.value.code, *capfd.readouterr())
    return call


@pytest.fixture
def pictures(tmp_path):
    "Three drawn scenes of different sizes with masks in FSS-1000's habit"
    for i, size in enumerate((100, 140, 120)):
        pic, lab = toy_scene(0, 40+i, size, target=2, split='test')
        Image.fromarray(pic).save(tmp_path/f'{i}.jpg')
        Image.fromarray(np.where(lab == 2, 255, 0).astype(np.uint8)).save(tmp_path/f'{i}.png')
    return tmp_path


@pytest.fixture
def fss_layout(tmp_path):
    "Two classes of four drawn pictures each, in the layout of FSS-1000"
    for c in (2, 4):
        folder = tmp_path/'data'/f'class{c}'
        folder.mkdir(parents=True)
        for i in range(4):
            pic, lab = toy_scene(0, 10*c+i, 80, target=c, split='test')
            Image.fromarray(pic).save(folder/f'{i+1}.jpg', quality=95)
            Image.fromarray(np.where(lab == c, 255, 0).astype(np.uint8)).save(folder/f'{i+1}.png')
    return tmp_path/'data'


def process(*words, cwd):
    "The same in a process of its own"
    code = 'from fss_nb.report.cli import main; main()'
    return subprocess.run([sys.executable, '-c', code, *words], capture_output=True, text=True, cwd=cwd)


def test_help_names_every_command_and_loads_no_torch(tmp_path):
    code = ("import sys\nfrom fss_nb.report.cli import main\ntry: main(['--help'])\n"
            "except SystemExit as e: print('code', e.code, 'torch' in sys.modules)")
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.splitlines()[-1] == 'code 0 False', done.stderr
    named = {line.split()[0] for line in done.stdout.partition('Commands:')[2].splitlines() if line.startswith('  ') and line[2] != ' '}
    assert named == COMMANDS == set(cli._commands())


def test_every_command_writes_json():
    for c in cli.app.registered_commands:
        assert 'json' in inspect.signature(c.callback).parameters, c.name


def test_models(run):
    code, out, err = run('models --json m.json')
    assert (code, err) == (0, '')
    assert 'panet-tiny-toy: panet with backbone tiny' in out
    wrote = json.loads(Path('m.json').read_text())
    assert wrote['systems'] == fss.list_models() and set(wrote['trained']) == set(fss.bundled_models())


def test_predict_is_what_the_segmenter_says(run, pictures):
    code, out, err = run('predict --support 0.jpg --mask 0.png --support 1.jpg --mask 1.png --query 2.jpg --out r --json p.json')
    assert (code, err) == (0, '')
    assert '0.png: 0 and 255 only: 255 is the object' in out and 'r/2-mask.png' in out
    want = fss.Segmenter().set_support(['0.jpg', '1.jpg'], ['0.png', '1.png']).predict('2.jpg')
    assert np.array_equal(np.array(Image.open('r/2-mask.png')), want.mask*255)
    assert np.array_equal(np.array(Image.open('r/2-overlay.png')), want.overlay())
    wrote = json.loads(Path('p.json').read_text())['results'][0]
    assert wrote['share'] == want.mask.mean() and Path(wrote['mask']).exists() and Path(wrote['overlay']).exists()
    assert want.mask.shape == (120, 120)


def test_predict_in_a_process_of_its_own(pictures):
    done = process('predict', '--support', '0.jpg', '--mask', '0.png', '--query', '1.jpg', '--query', '2.jpg', '--out', 'r', cwd=pictures)
    assert (done.returncode, done.stderr) == (0, '')
    assert sorted(p.name for p in (pictures/'r').iterdir()) == ['1-mask.png', '1-overlay.png', '2-mask.png', '2-overlay.png']


def test_eval_prints_each_class_beside_two_rivals(run, fss_layout):
    code, out, err = run('eval --benchmark fss1000 --root data --size 64 --json e.json')
    assert (code, err) == (0, '')
    wrote = json.loads(Path('e.json').read_text())['reports']
    assert list(wrote) == ['panet-tiny-toy', 'RGB prototypes', 'pixel forest']
    for name, r in wrote.items():
        assert name in out.splitlines()[0]
        assert set(r['per_class']) == {'class2', 'class4'} and 0 <= r['ci'][0] <= r['miou'] <= r['ci'][1] <= 1
        assert np.isclose(np.mean(list(r['per_class'].values())), r['miou'])
        for c, v in r['per_class'].items():
            line = next(x for x in out.splitlines() if x.startswith(c))
            assert f'{100*v:.1f}' in line.replace('*', '').split()
    assert len({r['manifest_sha256'] for r in wrote.values()}) == 1
    b = fss.benchmark('fss1000', 'data')
    again = fss.evaluate(fss.load('panet-tiny-toy'), b, fss.protocol('even', b, size=64), progress=False)
    assert wrote['panet-tiny-toy'] == json.loads(json.dumps(again.to_dict()))


def test_eval_without_the_forest_says_so(run, fss_layout, monkeypatch):
    monkeypatch.setitem(sys.modules, 'sklearn.ensemble', None)
    code, out, err = run('eval --benchmark fss1000 --root data --size 64')
    assert code == 0 and 'pixel forest' not in out and 'RGB prototypes' in out
    assert err.startswith('fss: note: the column of the pixel forest is left out') and "pip install 'fss_nb[weak]'" in err
    assert err.count('\n') == 1


def test_coarse_masks_instead_of_outlines(run):
    code, out, err = run('train imr_hsnet --steps 1 --seeds coarse-0.5 --json t.json')
    assert code == 0, err
    wrote = json.loads(Path('t.json').read_text())
    assert wrote['runs'][0]['options']['recipe']['seeds'] == 'coarse-0.5'
    code, out, err = run(f"eval --model {wrote['run']} --episodes 6 --seeds coarse-0.3 --json e.json")
    assert code == 0 and 'RGB prototypes' not in out and 'Coarse masks by coarse-0.3 instead of outlines.' in out, err
    m, b = fss.load(wrote['run']), fss.benchmark('toy')
    again = fss.evaluate(m, b, fss.protocol('even', b, episodes=6), progress=False, change=fss.seeder('coarse-0.3'))
    report, = json.loads(Path('e.json').read_text())['reports'].values()
    assert (report['miou'], report['change']) == (again.miou, 'coarse-0.3')
    for model, seeds, words in (('panet-tiny-toy', 'coarse-0.3', 'which reads outlines'), (wrote['run'], 'coarse-2', 'from 0 to 1')):
        code, out, err = run(f'eval --model {model} --episodes 6 --seeds {seeds}')
        assert code == 2 and words in err and err.count('\n') == 1


def test_train_then_eval_then_resume(run):
    code, out, _ = run('train --steps 2 --seed 3 --json t.json')
    assert code == 0
    wrote = json.loads(Path('t.json').read_text())
    assert wrote['runs'][0]['card']['steps'] == 2 and wrote['runs'][0]['card']['seed'] == 3 and f"fss eval --model {wrote['run']}" in out
    first = run(f"eval --model {wrote['run']} --episodes 10 --no-baselines")
    assert (first[0], first[2]) == (0, '') and Path(wrote['run']).name in first[1].splitlines()[0]
    assert run(f"train --resume {wrote['run']}")[0] == 0                        # nothing is left to do, and nothing changes
    assert run(f"eval --model {wrote['run']} --episodes 10 --no-baselines")[1] == first[1]


def test_demo(run):
    code, out, _ = run('demo --steps 3 --episodes 25 --json d.json')
    assert code == 0
    for row in ('all foreground', 'random features', 'colour histogram', 'training-free prototypes', 'trained PANet'): assert f'\n{row} ' in out
    wrote = json.loads(Path('d.json').read_text())
    assert wrote == json.loads(next(Path('runs').rglob('first_light.json')).read_text())
    picture = np.array(Image.open('images/first_light.jpg'))
    assert picture.std() > 30 and picture.shape[0] > picture.shape[1] > 300


def test_bench_compares_before_it_times(run):
    "One of its tasks; all of them together take minutes"
    code, out, _ = run('bench --repeats 1 --only panet --json b.json')
    assert code == 0
    lines = [json.loads(x) for x in out.splitlines()]
    assert lines == json.loads(Path('b.json').read_text())
    by_name = {x['name']: x for x in lines}
    assert {'panet_head_417', 'panet_train_417'} <= set(by_name) and all(n.startswith('panet') for n in by_name)
    assert all({'name', 'value', 'unit', 'reference', 'threads'} <= set(x) for x in lines)
    for x in ('panet_head_417', 'panet_train_417'):
        assert by_name[x]['difference'] < 1e-3
    code, out, err = run('bench --only hsnett')
    assert code == 2 and "did you mean 'hsnet'" in err and err.count('\n') == 1


def test_a_bug_is_not_swallowed(run, monkeypatch):
    monkeypatch.setattr('fss_nb.report.bench.bench', lambda repeats, only: 1/0)
    with pytest.raises(ZeroDivisionError): run('bench')


@real
def test_eval_on_real_cells_and_tiles(run):
    code, out, err = run(f'eval --benchmark fss1000 --root {DATA}/fss-mini --size 128 --classes wbc_nucleus_a,tile_crack --json e.json')
    assert code == 0 and all(line.startswith('fss: note: ') for line in err.splitlines())
    wrote = json.loads(Path('e.json').read_text())['reports']
    assert all(set(r['per_class']) == {'wbc_nucleus_a', 'tile_crack'} for r in wrote.values())
    nucleus = {n: r['per_class']['wbc_nucleus_a'] for n, r in wrote.items()}
    assert nucleus['pixel forest'] > .4                                          # stained nuclei are easy for colour and texture


@real
def test_eval_on_real_voc_names_what_it_leaves_out(run):
    code, out, err = run(f'eval --benchmark pascal5i --root {DATA}/VOC2012-mini --size 128 --no-baselines --json e.json')
    assert (code, err) == (0, '')
    wrote = json.loads(Path('e.json').read_text())
    tested, left = set(wrote['reports']['panet-tiny-toy']['per_class']), set(wrote['left_out'])
    b = fss.benchmark('pascal5i', f'{DATA}/VOC2012-mini')
    assert tested | left == set(b.classes) and not tested & left and 'person' in tested
    assert all(c in out.partition('LEFT OUT')[2] for c in left)
    code, out, err = run(f'eval --benchmark pascal5i --root {DATA}/VOC2012-mini --size 128 --fold 0')
    assert code == 2 and out == '' and err.count('\n') == 1                      # asked for exactly, it cannot be answered


@real
def test_predict_takes_one_value_of_a_voc_label(run):
    b = fss.benchmark('pascal5i', f'{DATA}/VOC2012-mini')
    person = b.classes.index('person')+1
    ids = [i for i, c in b.index('test').pairs([person], 2000)][:2]
    pic, lab = (f'{b.root}/{d}/{ids[0]}.{e}' for d, e in (('JPEGImages', 'jpg'), ('SegmentationClassAug', 'png')))
    code, out, err = run(f'predict --support {pic} --mask {lab} --value {person} --query {b.root}/JPEGImages/{ids[1]}.jpg --out r')
    assert (code, err) == (0, '') and f'{person} is the object' in out
    assert np.array(Image.open(f'r/{ids[1]}-mask.png')).shape == b.image(ids[1]).shape[:2]


def test_train_names_a_system_and_keeps_what_was_changed(run):
    code, out, err = run('train pfenet --steps 2 --batch 2 --lr 0.01 --seed 3 --set options.width=16 --set clip=1 --json t.json')
    assert (code, err) == (0, '') and 'step 2 of 2' in out
    one, = json.loads(Path('t.json').read_text())['runs']
    r, plain = one['options']['recipe'], fss.find_recipe('pfenet')
    assert (r['name'], r['lr'], r['seed'], r['clip'], r['steps']) == ('pfenet-toy', .01, 3, 1, 2)
    assert r['options'] == {**plain.options, 'width': 16} and r['weight_decay'] == plain.weight_decay
    assert {k for k, v in r['sources'].items() if v == 'set by hand'} >= {'lr', 'seed', 'clip', 'steps', 'batch'}
    assert fss.load(one['run']).cfg.width == 16
    code, _, err = run(f"train pfenet --resume {one['run']} --lr 0.1")
    assert code == 2 and 'found --resume with changes' in err and err.count('\n') == 1
    assert run(f"train --resume {one['run']}")[0] == 0
    for words, want in (('--set lr', 'want name=value'), ('--set lrr=1', "did you mean 'lr'"), ('--set options.widht=3', "did you mean 'width'"),
                        ('--accumulate 3', 'want a batch that 3 divides'), ('--amp fp16', "use --amp bf16"), ('--select novel', 'without val_every')):
        code, _, err = run(f'train pfenet --steps 1 --batch 2 --device cpu {words}')
        assert code == 2 and want in err and err.count('\n') == 1, err


def test_all_folds_end_in_a_table_and_can_be_repeated(run):
    line = 'train panet --all-folds --steps 3 --batch 2 --episodes 20 --shots 1 --json t.json'
    code, out, err = run(line)
    assert (code, err) == (0, '')
    runs = json.loads(Path('t.json').read_text())['runs']
    assert [r['options']['fold'] for r in runs] == [0, 1, 2, 3] and len(list(Path('runs').iterdir())) == 4
    mean = np.mean([r['reports']['1']['miou'] for r in runs])
    row = next(x for x in out.splitlines() if x.startswith('panet tiny, toy 1-shot'))
    assert all(f"{100*r['reports']['1']['miou']:.1f}" in row for r in runs) and f'{100*mean:.1f} [' in row and 'last, step 3' in row
    b = fss.benchmark('toy')
    again = fss.evaluate(fss.load(runs[2]['run']), b, fss.protocol('even', b, fold=2, episodes=20, size=96), progress=False)
    assert again.miou == runs[2]['reports']['1']['miou']
    assert run(line)[0] == 0 and len(list(Path('runs').iterdir())) == 4          # nothing is trained twice
    assert json.loads(Path('t.json').read_text())['runs'][3]['reports'] == runs[3]['reports']


def test_eval_with_other_options_and_scales(run):
    ask, seen = 'eval --model panet-tiny-toy --episodes 6 --no-baselines --json e.json', {}
    for words in ('', '--set alpha=-20', '--scales 0.75,1'):
        assert run(f'{ask} {words}')[0] == 0
        (name, r), = json.loads(Path('e.json').read_text())['reports'].items()
        seen[words] = r['fbiou']
    assert len(set(seen.values())) == 3                                           # each answers in its own way
    b = fss.benchmark('toy')
    turned = fss.evaluate(fss.load('panet-tiny-toy', alpha=-20), b, fss.protocol('even', b, episodes=6), progress=False)
    assert turned.fbiou == seen['--set alpha=-20']
    code, _, err = run(f'{ask} --set alhpa=3')
    assert code == 2 and "did you mean 'alpha'" in err
