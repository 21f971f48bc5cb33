"Pictures from anywhere: all forms of one are one; what is hostile is one line, at once, and nothing is written"
import io
import struct
import warnings
import zlib
from fractions import Fraction

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile

from fss_nb.core import DataError, to_image
from fss_nb.data.toy import toy_scene
from fss_nb.use.pictures import MAX_PIXELS, as_picture, eight_bits, pictures_in

PIC = np.ascontiguousarray(toy_scene(0, 0, target=4, size=64)[0][:, :48])
GREY = np.array(Image.fromarray(PIC).convert('L'))
TURN = {1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1], 5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a, 1), 7: lambda a: a[::-1, ::-1].swapaxes(0, 1), 8: lambda a: np.rot90(a, -1)}


def file(a, **options):
    out = io.BytesIO()
    (a if isinstance(a, Image.Image) else Image.fromarray(np.ascontiguousarray(a))).save(out, **{'format': 'png', **options})
    return out.getvalue()


def lying(orientation):
    "The picture as a telephone saves it: sideways, with a note how to turn it"
    exif = Image.Exif()
    exif[274] = orientation
    return file(TURN[orientation](PIC), exif=exif)


FORMS = {
    'path': lambda d: d/'p.png', 'text path': lambda d: str(d/'p.png'), 'wrong ending': lambda d: d/'p.jpg', 'no ending': lambda d: d/'p',
    'bytes': lambda d: file(PIC), 'bytearray': lambda d: bytearray(file(PIC)), 'memoryview': lambda d: memoryview(file(PIC)),
    'pil': lambda d: Image.fromarray(PIC), 'pil, not yet read': lambda d: Image.open(d/'p.png'), 'array': lambda d: PIC,
    'not in a row': lambda d: np.asfortranarray(PIC), 'mirrored view': lambda d: PIC[:, ::-1].copy()[:, ::-1], 'read only': lambda d: np.asarray(Image.fromarray(PIC)),
    'tensor': lambda d: torch.as_tensor(PIC), 'colours first': lambda d: torch.as_tensor(PIC).movedim(2, 0), 'normalised': lambda d: to_image(PIC),
    'normalised, double': lambda d: to_image(PIC).double(), 'opaque': lambda d: np.dstack([PIC, np.full(PIC.shape[:2], 255, np.uint8)]),
    'webp': lambda d: file(PIC, format='webp', lossless=True), 'tiff': lambda d: file(PIC, format='tiff'), 'bmp': lambda d: file(PIC, format='bmp'),
    'ppm': lambda d: file(PIC, format='ppm'), 'palette without loss': lambda d: file(Image.fromarray(PIC)),
    **{f'orientation {o}': (lambda d, o=o: lying(o)) for o in TURN}}


@pytest.mark.parametrize('form', FORMS)
def test_all_forms_are_one_picture(tmp_path, form):
    for name in ('p.png', 'p.jpg', 'p'): (tmp_path/name).write_bytes(file(PIC))
    before = PIC.copy()
    got = as_picture(FORMS[form](tmp_path))
    assert got.dtype == np.uint8 and got.shape == PIC.shape and (got == PIC).all() and (PIC == before).all()


@pytest.mark.parametrize('make', [lambda: GREY, lambda: GREY[..., None], lambda: torch.as_tensor(GREY), lambda: torch.as_tensor(GREY)[None],
                                  lambda: file(GREY), lambda: file(Image.fromarray(PIC).convert('L'), format='webp', lossless=True),
                                  lambda: file(np.dstack([GREY, np.full(GREY.shape, 255, np.uint8)]))])
def test_grey(make):
    assert (as_picture(make()) == np.stack([GREY]*3, -1)).all()


def spread(a):
    "The rule of the notebook in fractions, one number after the other"
    low, high = int(a.min()), int(a.max())
    return [[int(Fraction(255*(int(v)-low), max(high-low, 1))+Fraction(1, 2)) for v in row] for row in a]


@pytest.mark.parametrize('low,step', [(0, 257), (37, 16), (60000, 1), (0, 1)])
def test_sixteen_bits_are_spread(low, step):
    deep = (low+GREY.astype(np.int64)*step).astype(np.uint16)
    want = np.array(spread(deep), np.uint8)
    for x in (deep, file(deep), file(deep, format='tiff'), torch.as_tensor(deep.astype(np.int32)), deep[..., None], deep.astype(np.int64)):
        assert np.abs(as_picture(x).astype(int)-want[..., None]).max() <= (0 if step != 257 else 1)     # a tie may round either way
    assert eight_bits(deep).min() == 0 and eight_bits(deep).max() == 255


def test_transparent_is_laid_on_white():
    alpha = np.arange(48*64).reshape(64, 48) % 256
    clear = np.dstack([PIC, alpha.astype(np.uint8)])
    want = (alpha[..., None]*PIC+(255-alpha[..., None])*255)/255
    for x in (clear, Image.fromarray(clear), file(clear), torch.as_tensor(clear), torch.as_tensor(clear).movedim(2, 0)):
        assert np.abs(as_picture(x)-want).max() <= 1
    hidden = clear.copy()
    hidden[alpha == 0, :3] = 7                                        # a colour that nobody sees
    assert (as_picture(hidden) == as_picture(clear)).all()


def test_cmyk_keeps_its_colours():
    for options in (dict(format='jpeg', quality=98, subsampling=0), dict(format='tiff')):
        assert np.abs(as_picture(file(Image.fromarray(PIC).convert('CMYK'), **options)).astype(int)-PIC).mean() < 6


@pytest.mark.parametrize('kind', ['gif', 'webp', 'tiff', 'png'])
def test_the_first_frame_and_a_word_about_it(tmp_path, kind):
    others = [Image.fromarray(PIC).rotate(a) for a in (90, 180)]
    options = dict(lossless=True) if kind == 'webp' else {}
    (tmp_path/f'a.{kind}').write_bytes(file(PIC, format=kind, save_all=True, append_images=others, **options))
    with pytest.warns(UserWarning) as said: got = as_picture(tmp_path/f'a.{kind}')
    assert [str(w.message) for w in said] == [f'{tmp_path}/a.{kind}: found 3 frames, took the first; save another one as a picture to use it']
    assert np.abs(got.astype(int)-PIC).mean() < (6 if kind == 'gif' else 1e-9)


def test_a_telephone_with_a_second_small_picture_is_no_animation():
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        got = as_picture(file(PIC, format='mpo', save_all=True, append_images=[Image.fromarray(PIC[::2, ::2])], quality=98, subsampling=0))
    assert np.abs(got.astype(int)-PIC).mean() < 6


def header(W, H, kind='png'):
    "A file that promises a picture of this size and holds nothing"
    data = b'IHDR'+struct.pack('>IIBBBBB', W, H, 8, 2, 0, 0, 0)
    body = b'IDAT'+zlib.compress(bytes(100))
    return (b'\x89PNG\r\n\x1a\n'+struct.pack('>I', 13)+data+struct.pack('>I', zlib.crc32(data))
            + struct.pack('>I', len(body)-4)+body+struct.pack('>I', zlib.crc32(body)))


def gif(W, H): return b'GIF89a'+struct.pack('<HH', W, H)+b'\x00\x00\x00,'+struct.pack('<HHHH', 0, 0, W, H)+b'\x00\x02\x02L\x01\x00;'


HOSTILE = {
    'cut off': (lambda: file(PIC)[:2000], 'found a broken file .*want a whole picture; copy or download it again'),
    'jpeg cut off': (lambda: file(PIC, format='jpeg')[:900], 'found a broken file .*download it again'),
    'only a header': (lambda: file(PIC)[:33], 'found a broken file|found no picture'),
    'text': (lambda: b'My cat, by the window', 'found no picture in it, want PNG, JPEG or the like; open it in a viewer'),
    'zeros': (lambda: bytes(5000), 'found no picture in it'),
    'a program for a printer': (lambda: b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 50 50\n%%EndComments\nshowpage\n', 'found no picture in it'),
    'bomb': (lambda: header(50000, 50000), f'found more than {MAX_PIXELS/1e6:.0f} million pixels, want fewer; make it smaller'),
    'gif bomb': (lambda: gif(65535, 65535), 'found more than 120 million pixels'),
    'large': (lambda: header(12000, 12000), 'found a picture of 12000x12000 pixels, want at most 120 million in all'),
    'strip': (lambda: header(60000, 1), 'found a picture of 1x60000 pixels, want 8 or more on each side'),
    'long strip': (lambda: header(60000, 60), 'found a picture of 60x60000 pixels, want no side more than 100 times the other'),
    'no pixels': (lambda: np.zeros((0, 0, 3), np.uint8), 'found a picture of 0x0 pixels'),
    'no columns': (lambda: np.zeros((90, 0), np.uint8), 'found a picture of 90x0 pixels'),
    'no pixels in a header': (lambda: header(0, 0), 'found a broken file|found no picture|0x0 pixels'),
    'fractions': (lambda: PIC/255, r'found numbers of type float64, want uint8 .* pass \(255\*x\)'),
    'fractions in a file': (lambda: file(Image.fromarray(GREY/np.float32(255)), format='tiff'), 'found fractions, want whole numbers'),
    'yes and no': (lambda: GREY > 9, 'found numbers of type bool'),
    'colours first': (lambda: PIC.transpose(2, 0, 1), 'found shape .*move the colours to the last axis'),
    'a batch': (lambda: PIC[None], r'found shape \(1, 64, 48, 3\)'),
    'a batch of images': (lambda: to_image(PIC)[None], 'found numbers of type float32|found shape'),
    'not a number': (lambda: to_image(PIC)*float('nan'), 'found values that are no numbers'),
    'five planes': (lambda: np.zeros((9, 9, 5), np.uint8), 'found shape'),
    'deep and transparent': (lambda: np.zeros((9, 9, 4), np.uint16), 'found four planes of uint16'),
    'nothing': (lambda: None, 'found NoneType, want a path'),
    'a list': (lambda: [PIC], 'found list, want a path'),
}


@pytest.mark.parametrize('case', HOSTILE)
def test_hostile_is_one_line(case):
    make, says = HOSTILE[case]
    lax = ImageFile.LOAD_TRUNCATED_IMAGES
    ImageFile.LOAD_TRUNCATED_IMAGES = True                            # some libraries set this for the whole program
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('error')
            with pytest.raises(DataError, match='^cat.png: '+says) as e: as_picture(make(), 'cat.png')
        assert ImageFile.LOAD_TRUNCATED_IMAGES is True
    finally: ImageFile.LOAD_TRUNCATED_IMAGES = lax
    assert '\n' not in str(e.value)


def test_a_bomb_is_not_believed():
    "Size is looked at before anything is made of it"
    import tracemalloc
    tracemalloc.start()
    for x in (header(50000, 50000), header(12000, 12000), gif(65535, 65535)):
        with pytest.raises(DataError): as_picture(x)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5e6


@pytest.mark.parametrize('name,says', [('none.png', 'found no such file'), ('dir', 'found a folder'), ('empty.png', 'found an empty file')])
def test_files_that_are_none(tmp_path, name, says):
    (tmp_path/'dir').mkdir(); (tmp_path/'empty.png').touch()
    with pytest.raises(DataError, match=f'{name}: {says}'): as_picture(tmp_path/name)


def test_a_folder_is_told_by_content(tmp_path):
    for name, x in {'b.png': file(PIC), 'a': file(PIC, format='jpeg'), 'c.txt': file(PIC), 'd.jpg': b'text', '.e.png': file(PIC), 'Thumbs.db': b'x',
                    'torn.png': file(PIC)[:2000], 'bomb.png': header(50000, 50000)}.items(): (tmp_path/name).write_bytes(x)
    (tmp_path/'more').mkdir()
    pictures, rest = pictures_in(tmp_path)
    assert [p.name for p in pictures] == ['a', 'b.png', 'c.txt', 'torn.png']
    assert [p.name for p in rest] == ['bomb.png', 'd.jpg', 'more']
