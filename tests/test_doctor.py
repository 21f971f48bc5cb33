"""From an empty disk to the first episode: a server that misbehaves, processes that are killed, disks of all kinds.
The real hosts are not asked."""
import hashlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from PIL import Image

from fss_nb.core import DataError, FssError
from fss_nb.data import download, episodes
from fss_nb.data.coco import Coco20i
from fss_nb.data.download import Archive, Piece, archives, data_sets, fetch, unpack
from fss_nb.data.lists import pascal_ids
from fss_nb.data.toy import toy_scene
from fss_nb.report import cli
from fss_nb.report.doctor import data_plan, doctor, examples, get_data, look_at

DATA = os.environ.get('FSS_NB_DATA')
FILES = {f'top/{d}/{i}.bin': np.random.default_rng(i).bytes(9000) for d in ('a', 'b') for i in range(30)}


def zipped(files):
    box = io.BytesIO()
    with zipfile.ZipFile(box, 'w') as z:
        for n, d in files.items(): z.writestr(n, d)
    return box.getvalue()


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    "A folder and a cache of one's own, and no data from outside"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('FSS_NB_CACHE', str(tmp_path/'cache'))
    monkeypatch.delenv('FSS_NB_DATA', raising=False)


@pytest.fixture
def server():
    "A server of one file; set its `chop`, `slow`, `code`, `ranges`, `length` to make it misbehave"
    class Handler(BaseHTTPRequestHandler):
        body, chop, slow, code, ranges, length, sent = zipped(FILES), None, 0, None, True, True, []

        def log_message(self, *_): pass

        def do_GET(self):
            cls, asked = type(self), self.headers.get('Range')
            if cls.code: return self.send_error(cls.code)
            start = int(asked[6:-1]) if asked and cls.ranges else 0
            self.send_response(206 if asked and cls.ranges else 200)
            if asked and cls.ranges: self.send_header('Content-Range', f'bytes {start}-{len(cls.body)-1}/{len(cls.body)}')
            if cls.length: self.send_header('Content-Length', str(len(cls.body)-start))
            self.end_headers()
            rest = cls.body[start:] if cls.chop is None else cls.body[start:start+cls.chop]
            cls.sent.append((start, len(rest)))
            try:
                for k in range(0, len(rest), 1 << 14):
                    self.wfile.write(rest[k:k+(1 << 14)]); self.wfile.flush(); time.sleep(cls.slow)
            except OSError: pass                                            # the client was killed
            self.close_connection = True

    http = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    Handler.sent = []
    Handler.archive = Archive('x.zip', f'http://127.0.0.1:{http.server_address[1]}/x.zip', len(Handler.body),
                              'sha256:'+hashlib.sha256(Handler.body).hexdigest(), (Piece('top/a', 'a'), Piece('top/b', 'b')),
                              'https://example.org/page', 'this test')
    yield Handler
    http.shutdown(); http.server_close()


def get(a, folder='d'): return fetch(a, folder, progress=False)


# --- fetching

def test_nothing_is_sent_twice_whatever_breaks(server):
    "Chopped at every call, at sizes of no pattern: the file is whole and every byte was sent once"
    rng = np.random.default_rng(0)
    for run in range(200):
        server.chop = int(rng.integers(1, 60_000))
        try: path = get(server.archive); break
        except DataError as e: assert 'broke off' in str(e) and 'goes on from there' in str(e)
        assert os.listdir('d') == ['x.zip.part']
    assert path.read_bytes() == server.body and os.listdir('d') == ['x.zip'] and run > 3
    assert sum(n for _, n in server.sent) == len(server.body)


def test_a_killed_process_leaves_a_part_that_is_continued(server, tmp_path):
    server.slow = .02
    a = server.archive
    code = ('import sys; from fss_nb.data.download import Archive, fetch\n'
            f'fetch(Archive({a.name!r}, {a.url!r}, {a.size}, {a.digest!r}, (), "", ""), "d", progress=False)')
    child = subprocess.Popen([sys.executable, '-c', code], cwd=tmp_path, stderr=subprocess.DEVNULL)
    part, until = tmp_path/'d'/'x.zip.part', time.time()+60
    while time.time() < until and not (part.exists() and part.stat().st_size): time.sleep(.01)
    child.send_signal(signal.SIGKILL); child.wait()
    begun = part.stat().st_size
    assert 0 < begun < len(server.body) and os.listdir('d') == ['x.zip.part']
    server.slow, server.sent = 0, []
    assert get(a).read_bytes() == server.body
    assert server.sent == [(begun, len(server.body)-begun)]


def test_a_wrong_checksum_is_kept_aside_and_does_not_mislead_the_next_run(server):
    good, server.body = server.body, b'<html>log in</html>'.ljust(len(server.body), b' ')
    with pytest.raises(DataError, match=r'x\.zip\.bad: found sha256 .* want .* fetch it again'): get(server.archive)
    assert os.listdir('d') == ['x.zip.bad'] and Path('d/x.zip.bad').read_bytes() == server.body
    server.body = good
    assert get(server.archive).read_bytes() == good


def test_a_part_of_another_edition_is_found_out(server):
    os.mkdir('d'); Path('d/x.zip.part').write_bytes(b'?'*1000)
    with pytest.raises(DataError, match='sha256'): get(server.archive)
    assert get(server.archive).read_bytes() == server.body


def test_without_ranges_it_begins_anew_and_without_length_it_still_ends(server):
    os.mkdir('d'); Path('d/x.zip.part').write_bytes(b'?'*1000)
    server.ranges = server.length = False
    assert get(server.archive).read_bytes() == server.body
    server.chop = 1000
    with pytest.raises(DataError, match='broke off after 1000 of'): get(server.archive, 'e')


@pytest.mark.parametrize('code', [401, 403, 404, 500])
def test_refusals_name_the_address_and_the_way_by_hand(server, code):
    server.code = code
    with pytest.raises(DataError) as e: get(server.archive)
    assert all(w in str(e.value) for w in (server.archive.url, str(code), 'https://example.org/page', 'd/x.zip', 'run this again'))
    assert '\n' not in str(e.value) and os.listdir('d') == []


def test_no_network(server):
    def down(*_, **__): raise socket.gaierror(-2, 'Name or service not known')
    with pytest.raises(DataError, match='no connection.*example.org/page'): fetch(server.archive, 'd', progress=False, opener=down)


def test_a_full_disk_is_said_and_the_part_can_be_continued(server):
    with patch.object(download.shutil, 'disk_usage', lambda _: os.terminal_size((0, 0)) and type('U', (), {'free': 10})):
        with pytest.raises(DataError, match='make room'): get(server.archive)
    real = download._chunks

    def full(r):
        for k, chunk in enumerate(real(r)):
            if k: raise OSError(28, 'No space left on device')
            yield chunk
    with patch.object(download, '_chunks', full), pytest.raises(DataError, match='no room left'): get(server.archive)
    assert get(server.archive).read_bytes() == server.body


# --- unpacking

def read(folder): return {p.relative_to(folder).as_posix(): p.read_bytes() for p in Path(folder).rglob('*') if p.is_file()}


def test_a_killed_unpack_leaves_nothing_under_the_name(tmp_path):
    Path('x.zip').write_bytes(zipped(FILES))
    code = ('import shutil, time; real = shutil.copyfileobj\n'
            'def slow(*a): time.sleep(.05); return real(*a)\n'
            'shutil.copyfileobj = slow\n'
            'from fss_nb.data.download import unpack; unpack("x.zip", "out/a", "top/a", progress=False)')
    child = subprocess.Popen([sys.executable, '-c', code], cwd=tmp_path)
    tmp, until = tmp_path/'out/.a.unpacking', time.time()+60
    while time.time() < until and len(list(tmp.glob('*.bin'))) < 2: time.sleep(.01)
    child.send_signal(signal.SIGKILL); child.wait()
    assert os.listdir('out') == ['.a.unpacking'] and len(read('out')) < 30
    assert read(unpack('x.zip', 'out/a', 'top/a', progress=False)) == {n[6:]: d for n, d in FILES.items() if n[4] == 'a'}
    assert os.listdir('out') == ['a']


@pytest.mark.parametrize('name', ['../x', 'top/../../x', '/x', 'C:\\x', '..\\x', 'top/a/../../../x'])
@pytest.mark.parametrize('kind', ['zip', 'tar', 'tgz'])
def test_names_that_lead_outside_are_refused_before_anything_is_written(name, kind):
    files = {**FILES, name: b'!'}
    if kind == 'zip': Path('x.zip').write_bytes(zipped(files))
    else:
        with tarfile.open(f'x.{kind}', 'w:gz' if kind == 'tgz' else 'w') as t:
            for n, d in files.items(): m = tarfile.TarInfo(n); m.size = len(d); t.addfile(m, io.BytesIO(d))
    before = sorted(os.listdir('.'))
    with pytest.raises(DataError, match='stay inside'): unpack(f'x.{kind}', 'out/a', progress=False)
    assert sorted(os.listdir('.')) == before


@pytest.mark.parametrize('type_', [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused(type_):
    with tarfile.open('x.tar', 'w') as t:
        m = tarfile.TarInfo('top/link'); m.type, m.linkname = type_, '/etc/passwd'; t.addfile(m)
    with pytest.raises(DataError, match='link or a device'): unpack('x.tar', 'out', progress=False)
    assert not Path('out').exists()


def test_room_is_checked_before_unpacking():
    Path('x.zip').write_bytes(zipped(FILES))
    with patch.object(download.shutil, 'disk_usage', lambda _: type('U', (), {'free': 1000})):
        with pytest.raises(DataError, match='make room'): unpack('x.zip', 'out/a', progress=False)
    assert not Path('out').exists()


# --- the doctor

def draw_voc(base, pictures=True):
    "A VOC folder of drawn scenes whose names are those of the real lists"
    for d in ('SegmentationClassAug', 'ImageSets/Segmentation', *(['JPEGImages'] if pictures else [])): (base/d).mkdir(parents=True)
    ids = dict(trainaug=pascal_ids('trainaug')[:12], val=pascal_ids('val')[:12])
    for k, i in enumerate(ids['trainaug']+ids['val']):
        pic, lab = toy_scene(0, k, size=80, target=1+k//2 % 6)
        Image.fromarray(lab.astype(np.uint8)).save(base/f'SegmentationClassAug/{i}.png')
        if pictures: Image.fromarray(pic).save(base/f'JPEGImages/{i}.jpg')
    for n, some in ids.items(): (base/f'ImageSets/Segmentation/{n}.txt').write_text('\n'.join(some))


def draw_coco(base, year=2014, pictures=True):
    "A COCO folder of squares"
    (base/'annotations').mkdir(parents=True)
    for part in ('train', 'val'):
        things = dict(images=[], annotations=[], categories=[])
        (base/f'{part}{year}').mkdir()
        for k in range(1, 9):
            name = f'COCO_{part}{year}_{k:012d}.jpg' if year == 2014 else f'{k:012d}.jpg'
            if pictures: Image.fromarray(np.full((40, 50, 3), 20*k, np.uint8)).save(base/f'{part}{year}'/name)
            things['images'].append(dict(id=k, height=40, width=50, file_name=name))
            things['annotations'].append(dict(id=k, image_id=k, category_id=1+k % 2, iscrowd=0, area=400,
                                              bbox=[5, 5, 20, 20], segmentation=[[5, 5, 25, 5, 25, 25, 5, 25]]))
        (base/f'annotations/instances_{part}{year}.json').write_text(json.dumps(things))


@pytest.fixture
def coco():
    with patch.dict(episodes._BENCHMARKS, coco20i=Coco20i): yield


def snapshot(folder): return {p: p.stat().st_mtime_ns for p in Path(folder).rglob('*')}


def test_an_empty_disk_offline(coco, monkeypatch):
    "Nothing is asked of the network, nothing is written, and every missing set has a next command"
    monkeypatch.setattr(socket, 'socket', None); monkeypatch.setattr(socket, 'create_connection', None)
    os.mkdir('disk')
    c = doctor('disk')
    assert [f.what for f in c.data] == list(episodes.benchmarks())
    states = {f.what: f.state for f in c.data}
    assert states.pop('toy') == states.pop('procedural') == 'ok' and set(states.values()) == {'missing'}
    for f in c.data:
        if f.what in ('pascal5i', 'coco20i', 'fss1000'): assert f.do == f'fss data {f.what} --root disk --download'
    for name in [*episodes.benchmarks(), *data_sets()]: str(data_plan(name, 'disk'))
    assert not os.listdir('disk') and c.usable == ['toy', 'procedural']
    assert json.loads(json.dumps(c.to_dict()))['data'][0]['state'] == 'ok'
    html = c._repr_html_(); assert html.count('<tr>') == len(c.system)+len(c.data)
    for line in str(c).splitlines(): assert len(line) < 300


def test_without_any_folder_it_says_which_option():
    f = look_at('pascal5i')
    assert f.state == 'missing' and 'FSS_NB_DATA' in f.says and f.do == 'fss data pascal5i --root FOLDER --download'
    with pytest.raises(DataError, match='pass root='): data_plan('pascal5i')
    Path('file').touch()
    with pytest.raises(DataError, match='found a file'): data_plan('pascal5i', 'file')


@pytest.mark.parametrize('layout', ['VOC2012', 'VOCdevkit/VOC2012', 'Datasets_HSN/VOC2012', '.'])
def test_labels_only_asks_for_pictures_only_and_into_the_same_folder(layout):
    base = Path('disk')/layout
    draw_voc(base, pictures=False)
    before = snapshot('disk')
    f, plan = look_at('pascal5i', 'disk'), data_plan('pascal5i', 'disk')
    assert f.state == 'labels' and '--download' in f.do
    assert plan.base == base and [p for ps in plan.missing.values() for p in ps] == [Piece('VOCdevkit/VOC2012/JPEGImages', 'JPEGImages')]
    said = []
    done = get_data('pascal5i', 'disk', say=said.append)
    assert done['index']['test'] and not done['fetched'] and 'first episode' in said[-1]
    assert snapshot('disk') == before
    with pytest.raises(DataError, match='JPEGImages'): examples(episodes.benchmark('pascal5i', 'disk'))


def test_some_pictures_missing_is_not_labels_only():
    draw_voc(Path('disk/VOC2012'))
    for i in pascal_ids('val')[:6]: Path(f'disk/VOC2012/JPEGImages/{i}.jpg').unlink()
    f = look_at('pascal5i', 'disk')
    assert f.state == 'wrong' and 'tried pictures fail' in f.says and pascal_ids('val')[0] in f.says


def test_a_broken_label_is_one_line_and_the_others_are_still_looked_at():
    draw_voc(Path('disk/VOC2012'))
    Path(f"disk/VOC2012/SegmentationClassAug/{pascal_ids('val')[0]}.png").write_bytes(b'not a png')
    found = {f.what: f for f in doctor('disk').data}
    assert found['pascal5i'].state == 'wrong' and pascal_ids('val')[0] in found['pascal5i'].says and '\n' not in found['pascal5i'].says
    assert found['toy'].state == 'ok' and found['fss1000'].state == 'missing'


@pytest.mark.parametrize('year,pictures', [(2014, True), (2017, True), (2017, False)])
def test_coco_of_the_year_that_is_there(coco, year, pictures):
    draw_coco(Path(f'disk/COCO{year}'), year, pictures)
    f, plan = look_at('coco20i', 'disk'), data_plan('coco20i', 'disk')
    assert f.state == ('part' if pictures else 'labels') and '80 classes, 8 of ' in f.says
    assert plan.base == Path(f'disk/COCO{year}')
    assert [a.name for a in plan.missing] == ([] if pictures else ['train2017.zip', 'val2017.zip'])
    assert get_data('coco20i', 'disk', say=str)['index'] == dict(train=8, test=8)


def test_coco_archives_to_first_episode(coco):
    "Three drawn archives with the names inside of the real ones"
    draw_coco(Path('made'))
    made = []
    for a in archives('coco2014'):
        part = a.pieces[0].part
        body = zipped({p.relative_to('made').as_posix(): p.read_bytes() for p in sorted(Path('made', part).rglob('*.*'))})
        Path(a.name).write_bytes(body)
        made.append(Archive(a.name, Path(a.name).absolute().as_uri(), len(body), 'md5:'+hashlib.md5(body).hexdigest(), a.pieces, a.page, ''))
    with patch.dict(download._sets(), coco2014=('COCO2014', made)):
        done = get_data('coco20i', 'fresh', yes=True, progress=False, say=str)
    assert done['fetched'] and done['finding']['state'] == 'part' and done['index'] == dict(train=8, test=8)
    assert sorted(os.listdir('fresh/COCO2014')) == ['annotations', 'train2014', 'val2014']
    with patch.dict(download._sets(), coco2014=('COCO2014', made)):
        assert get_data('coco2014', 'fresh', yes=True, progress=False, say=str)['episode'] == done['episode']


@pytest.mark.parametrize('inner', ['fewshot_data/', ''])
def test_fss1000_from_the_file_that_a_person_fetched(inner):
    with pytest.raises(DataError, match='fewshot_data.zip.*HKUSTCV/FSS-1000.*run this again'): get_data('fss1000', 'disk', yes=True, say=str)
    files = {}
    for c in (2, 4):
        for i in range(1, 5):
            pic, lab = toy_scene(0, 10*c+i, 80, target=c)
            for kind, a in (('jpg', pic), ('png', np.where(lab == c, 255, 0).astype(np.uint8))):
                box = io.BytesIO(); Image.fromarray(a).save(box, 'JPEG' if kind == 'jpg' else 'PNG')
                files[f'{inner}class{c}/{i}.{kind}'] = box.getvalue()
    os.makedirs('disk/downloads'); Path('disk/downloads/fewshot_data.zip').write_bytes(zipped(files))
    done = get_data('fss1000', 'disk', yes=True, progress=False, say=str)
    assert done['finding']['state'] == 'part' and '2 of 1,000 classes, 8 of 10,000 pictures' in done['finding']['says']
    assert done['index'] == dict(train=0, test=8)


def test_a_cut_archive_that_a_person_fetched():
    os.makedirs('disk/downloads'); Path('disk/downloads/fewshot_data.zip').write_bytes(zipped(FILES)[:-500])
    with pytest.raises(FssError, match='fewshot_data.zip: found a broken archive'): get_data('fss1000', 'disk', yes=True, progress=False, say=str)
    assert os.listdir('disk') == ['downloads']


def test_the_picture_of_three_episodes():
    draw_voc(Path('disk/VOC2012'))
    for name in ('e/three.png', 'three.jpg'):
        examples(episodes.benchmark('pascal5i', 'disk'), name)
        a = np.array(Image.open(name).convert('RGB')); assert a.std() > 30 and min(a.shape[:2]) > 250
    with pytest.raises(FssError, match='kind of picture file'): examples(episodes.benchmark('toy'), 'three.bmp')


@pytest.mark.skipif(not DATA, reason='FSS_NB_DATA is not set: no real pictures to look at')
def test_real_cuts_of_the_data_sets_are_parts(coco):
    found = {f.what: f for f in [*doctor(DATA).data, look_at('coco20i', DATA)]}
    assert found['coco20i'].state == found['fss1000'].state == 'part' and 'of 82,783 train' in found['coco20i'].says
    assert found['pascal5i'].state == 'part' and '38 of 10,582 train, 20 of 1,449 test' in found['pascal5i'].says
    for f in found.values(): assert f.state != 'wrong', f


@pytest.mark.skipif(not {'doctor', 'data'} <= set(cli._commands()), reason='the commands are not there yet')
def test_the_commands(capfd):
    def run(line):
        with pytest.raises(SystemExit) as stop: cli.main(line.split())
        return (stop.value.code, *capfd.readouterr())
    draw_voc(Path('disk/VOC2012'))
    code, out, err = run('doctor --root disk --json d.json --examples three.png')
    assert (code, err) == (0, '') and 'part' in out and Image.open('three.png').size[0] > 250
    assert {f['what'] for f in json.loads(Path('d.json').read_text())['data']} == set(episodes.benchmarks())
    code, out, err = run('data pascal5i --root disk --json p.json')
    assert code == 0 and 'nothing to fetch' in out and json.loads(Path('p.json').read_text())['index']['test']
    for line, advice in {'data pascal': 'did you mean', 'data pascal5i': '--root', 'data fss1000 --root disk --download': 'run this again'}.items():
        code, out, err = run(line)
        assert code == 2 and err.startswith('fss: ') and err.count('\n') == 1 and advice in err, err
