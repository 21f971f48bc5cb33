"""What is the user's to mend: one line that names it and says what to do, exit code 2, no traceback, nothing written."""
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from fss_nb.data.toy import toy_scene
from fss_nb.report import cli

EVAL = 'eval --benchmark fss1000 --root data --size 64 --no-baselines'
PREDICT = 'predict --support 1.jpg --mask 1.png --query 2.jpg --out result'


@pytest.fixture
def home(tmp_path, monkeypatch):
    "Whole pictures with masks, and two classes in the layout of FSS-1000; each case breaks one thing"
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv('FSS_NB_DATA', raising=False)
    for folder in ('data/ring', 'data/star', '.'):
        (tmp_path/folder).mkdir(parents=True, exist_ok=True)
        for i in range(1, 4):
            pic, lab = toy_scene(0, 10*len(folder)+i, 80, target=2, split='test')
            Image.fromarray(pic).save(tmp_path/folder/f'{i}.jpg')
            Image.fromarray(np.where(lab == 2, 255, 0).astype(np.uint8)).save(tmp_path/folder/f'{i}.png')
    return tmp_path


def text(name): return lambda home: (home/name).write_text('not a picture')
def cut(name, n): return lambda home: (home/name).write_bytes((home/name).read_bytes()[:n])
def grey(name, value, size=(80, 80)): return lambda home: Image.fromarray(np.full(size, value, np.uint8)).save(home/name)
def half(name, size): return lambda home: Image.fromarray(np.uint8(255*(np.indices(size)[0] < 20))).save(home/name)
def gone(*names): return lambda home: [(home/n).unlink() for n in names]
def nothing(home): pass
def colours(home): Image.fromarray(toy_scene(0, 1, 80)[0]).save(home/'1.png')
def several(home): Image.fromarray((toy_scene(0, 1, 80)[1] % 5*20).astype(np.uint8)).save(home/'1.png')
def huge(home):
    Image.fromarray(np.zeros((900, 900, 3), np.uint8)).save(home/'1.jpg')
    Image.fromarray(np.pad([[255]], ((5, 894), (5, 894))).astype(np.uint8)).save(home/'1.png')


CASES = {
    # name: (what is broken, command, what the line must name, what it must advise)
    'missing folder':           (nothing, 'eval --benchmark fss1000 --root nowhere', 'nowhere', 'check the path'),
    'no folder given':          (nothing, 'eval --benchmark fss1000', 'FSS_NB_DATA', '--root'),
    'folder of something else': (nothing, 'eval --benchmark pascal5i --root data', 'data', 'root'),
    'unreadable jpeg':          (text('data/ring/2.jpg'), EVAL, 'data/ring/2.jpg', 'viewer'),
    'truncated jpeg':           (cut('data/ring/2.jpg', 1500), EVAL, 'data/ring/2.jpg', 'download it again'),
    'empty file':               (cut('data/ring/2.jpg', 0), EVAL, 'data/ring/2.jpg', 'download it again'),
    'unreadable mask':          (text('data/ring/2.png'), EVAL, 'data/ring/2.png', 'viewer'),
    'mask of another size':     (half('data/ring/2.png', (40, 50)), EVAL, 'data/ring/2.png', 'found 40x50 pixels'),
    'picture without mask':     (gone('data/ring/2.png'), EVAL, 'data/ring/2.jpg', 'draw it or'),
    'too few pictures':         (gone('data/ring/2.jpg', 'data/ring/2.png', 'data/ring/3.jpg', 'data/ring/3.png'), EVAL, "'ring' has 1", 'pictures'),
    'too many shots':           (nothing, EVAL+' --shots 3', "'ring' has 3", '--shots 2'),
    'no shots':                 (nothing, EVAL+' --shots 0', 'shots 0', '--shots 1'),
    'size of nothing':          (nothing, EVAL.replace('64', '0'), 'size 0', '--size 1'),
    'unknown class':            (nothing, EVAL+' --classes rimg', 'rimg', "did you mean 'ring'"),
    'unknown fold':             (nothing, EVAL+' --fold 3', "fold '3'", 'valid: 0'),
    'unknown split':            (nothing, EVAL+' --split tset', 'tset', "did you mean 'test'"),
    'unknown model':            (nothing, 'eval --model panet-tiny-toi', 'panet-tiny-toi', "did you mean 'panet-tiny-toy'"),
    'folder without model':     (nothing, 'eval --model data', 'data/model.safetensors', 'check the path'),
    'model that is none':       (text('m.safetensors'), 'eval --model m.safetensors', 'm.safetensors', 'download it again'),
    'unknown benchmark':        (nothing, 'eval --benchmark pascal', 'pascal', "did you mean 'pascal5i'"),
    'unknown protocol':         (nothing, 'eval --protocol panett', 'panett', "did you mean 'panet'"),
    'unknown recipe':           (nothing, 'train panet-to', 'panet-to', "did you mean 'panet-toy'"),
    'resume nothing':           (nothing, 'train --resume data', 'data', 'check the path'),
    'nothing to train on':      (nothing, 'train --benchmark fss1000 --root data', 'no base classes', 'split lists'),
    'root of a drawn benchmark': (nothing, 'eval --root data', 'toy', 'leave root out'),
    'unknown option':           (nothing, 'eval --shot 1', '--shot', 'see fss eval --help'),
    'unknown command':          (nothing, 'evaluate', 'evaluate', 'see fss --help'),
    'word for a number':        (nothing, 'eval --shots many', '--shots', 'see fss eval --help'),
    'missing option':           (nothing, 'predict --support 1.jpg --mask 1.png --out result', '--query', 'see fss predict --help'),
    'no such picture':          (nothing, PREDICT.replace('1.jpg', '9.jpg'), '9.jpg', 'check the name'),
    'folder for a picture':     (nothing, PREDICT.replace('1.jpg', 'data'), 'data', 'name a file'),
    'support unreadable':       (text('1.jpg'), PREDICT, '1.jpg', 'viewer'),
    'query truncated':          (cut('2.jpg', 1500), PREDICT, '2.jpg', 'download it again'),
    'support mask other size':  (half('1.png', (40, 50)), PREDICT, '1.png', 'found 40x50 pixels, want 80x80 as in 1.jpg; save the mask'),
    'support mask empty':       (grey('1.png', 0), PREDICT, '1.png', 'outline the object'),
    'support mask all 255':     (grey('1.png', 255), PREDICT, '1.png', '0 for background and 1 for the object'),
    'support mask in colours':  (colours, PREDICT, '1.png', 'grey or palette PNG'),
    'support mask of classes':  (several, PREDICT, '1.png', '--value'),
    'value not in the mask':    (nothing, PREDICT+' --value 7', '1.png', 'outline the object'),
    'object vanishes':          (huge, PREDICT, 'mask 1 of object', 'crop'),
    'more masks than pictures': (nothing, PREDICT+' --mask 2.png', '1 pictures and 2 masks', 'one mask for each'),
    'queries of one name':      (nothing, PREDICT+' --query data/ring/2.jpg', '2, 2', 'rename'),
}


def check(code, out, err, name, advice):
    assert code == 2, err
    assert err.startswith('fss: ') and err.endswith('\n') and err.count('\n') == 1, err
    assert 'Traceback' not in err and 'nan' not in err.lower().split()
    assert name in err, err
    assert re.search(advice, err), err
    assert out == ''


@pytest.mark.parametrize('case', CASES)
def test_one_line_that_helps(case, home, capfd):
    broken, line, name, advice = CASES[case]
    broken(home)
    before = {p: p.stat().st_mtime_ns for p in home.rglob('*')}
    with pytest.raises(SystemExit) as stop: cli.main(line.split())
    check(stop.value.code, *capfd.readouterr(), name, advice)
    assert {p: p.stat().st_mtime_ns for p in home.rglob('*')} == before          # nothing was written


@pytest.mark.parametrize('case', ['truncated jpeg', 'support mask all 255', 'unknown option'])
def test_the_same_in_a_process_of_its_own(case, home):
    broken, line, name, advice = CASES[case]
    broken(home)
    done = subprocess.run([sys.executable, '-c', 'from fss_nb.report.cli import main; main()', *line.split()], capture_output=True, text=True)
    check(done.returncode, done.stdout, done.stderr, name, advice)


def test_a_class_that_loses_a_picture_is_named(home, capfd):
    "A picture whose object nobody outlined is left out of the result, and that is said on a line of its own"
    grey('data/ring/2.png', 0)(home)
    with pytest.raises(SystemExit) as stop: cli.main(EVAL.split())
    out, err = capfd.readouterr()
    assert stop.value.code == 0 and 'nan' not in out.lower()
    assert err.startswith('fss: note: ') and 'data/ring/2.png' in err and 'left out' in err and err.count('\n') == 1
