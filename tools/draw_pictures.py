"""images/draw_page.jpg and images/draw_canvas.jpg: the drawing page and one canvas, as Chromium shows them.

    python tools/draw_pictures.py

Run it again after a change of the widget's looks, and look at both.
"""
import sys
import tempfile
from io import BytesIO
from pathlib import Path

import browser
from PIL import Image

ROOT = Path(__file__).parent.parent
LARGEST = 150_000                              # bytes


def save(png, name):
    "As a JPEG that is not too large"
    img, path = Image.open(BytesIO(png)).convert('RGB'), ROOT/'images'/name
    for quality in range(90, 40, -5):
        img.save(path, quality=quality, optimize=True)
        if path.stat().st_size <= LARGEST: break
    print(f'{path.relative_to(ROOT)}: {img.width}x{img.height}, {path.stat().st_size//1000} kB')


def canvas(page):
    "A box, a scribble, a click on what is not meant"
    from fss_nb.data.procedural import draw_episodes
    from fss_nb.use import canvas as C
    pic = draw_episodes([72], pictures=2, size=400).pics[0, 1].numpy()
    traits = dict(width=400, height=400, strokes=[], tool='box', label=1, size=12, opacity=.55, message='', readonly=False, choices=[],
                  choice='', overlay=b'', picture=C.picture_bytes(pic), hint='A box over one wheel, a scribble on the other.')
    browser.still(page, C._ESM, C._CSS+' .at {width: 540px !important;}', traits)
    page.wait_for_selector('.fss-paper[data-picture="1"]')
    paper = page.locator('.fss-paper')
    browser.stroke(page, paper, [(.31, .52), (.66, .97)])
    page.keyboard.press('s'); browser.stroke(page, paper, [(.16, .12), (.22, .19), (.3, .1), (.33, .2)])
    page.keyboard.press('g'); page.keyboard.press('c')
    for p in ((.72, .3), (.2, .7)): browser.stroke(page, paper, [p])
    page.mouse.move(0, 0); page.wait_for_timeout(200)
    return page.locator('.fss-canvas').screenshot()


def whole(page, home):
    "The page through Voila after one box"
    with browser.voila(home, ROOT/'nbs'/'82c_use.try_drawing.ipynb') as server:
        page.goto(server.ready().page, wait_until='commit')
        page.wait_for_function('[...document.querySelectorAll(".fss-paper")].filter(c => +c.dataset.picture > 0).length === 2')
        paper = page.locator('.fss-paper').first
        browser.stroke(page, paper, [(.23, .22), (.53, .61)])
        page.wait_for_function('+document.querySelectorAll(".fss-paper")[1].dataset.overlay > 1')
        page.mouse.move(0, 0); page.evaluate('document.activeElement.blur()'); page.wait_for_timeout(500)
        return page.locator('.fss-page').screenshot()


def main():
    if browser.missing(): sys.exit(browser.missing())
    with tempfile.TemporaryDirectory() as home, browser.browser(1150, 1000, device_scale_factor=1.25) as page:
        save(canvas(page), 'draw_canvas.jpg')
        save(whole(page, home), 'draw_page.jpg')


if __name__ == '__main__': main()
