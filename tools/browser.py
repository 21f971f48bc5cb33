"""A notebook in a real browser: for tests/test_browser.py, tools/bench_draw.py and tools/draw_pictures.py.

Needs Chromium (`apt-get install chromium`, or its path in $CHROMIUM) and playwright; no network: whatever a page asks of another
machine is refused and noted in `page.outside`.
"""
import base64
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlparse

ROOT = Path(__file__).parent.parent
PATIENCE = 240                                 # seconds; a busy machine takes long to import torch
NAMES = 'chromium', 'chromium-browser', 'google-chrome', 'chrome'
ARGS = ('--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update '
        '--disable-sync --disable-dev-shm-usage --hide-scrollbars').split()


def missing():
    "Why no page can be opened, or ''"
    try: import playwright.sync_api  # noqa: F401
    except ImportError: return "playwright is not installed; pip install 'fss_nb[dev]'"
    return '' if chromium() else 'no Chromium is installed; apt-get install chromium, or name one in $CHROMIUM'


def chromium():
    return os.environ.get('CHROMIUM') or next((p for p in map(shutil.which, NAMES) if p), None)


def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


class Server:
    "A Jupyter server of one folder; `ask` talks to its only kernel directly, past the browser"

    def __init__(self, home, words, path='', **env):
        self.home, self.port = Path(home), free_port()
        self.url = f'http://127.0.0.1:{self.port}/'
        (self.home/'tmp').mkdir(exist_ok=True)
        self.env = {**os.environ, 'JUPYTER_RUNTIME_DIR': str(self.home/'runtime'), 'JUPYTER_CONFIG_DIR': str(self.home/'config'),
                    'IPYTHONDIR': str(self.home/'ipython'), 'TMPDIR': str(self.home/'tmp'), 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1', **env}
        self.log = open(self.home/'server.log', 'w')
        words = [w.replace('PORT', str(self.port)) for w in words]
        self.path, self.page = path, self.url
        self.process = subprocess.Popen([sys.executable, '-m', *words], env=self.env, stdout=self.log, stderr=self.log)

    def __enter__(self): return self
    def __exit__(self, *_): self.stop()

    def ready(self, seconds=PATIENCE):
        "Wait until it answers"
        end = time.time()+seconds
        while time.time() < end:
            if self.process.poll() is not None: break
            try: urllib.request.urlopen(self.url+self.path, timeout=5); return self
            except urllib.error.HTTPError: return self
            except OSError: time.sleep(.25)
        raise RuntimeError(f'the server did not start:\n{(self.home/"server.log").read_text()[-2000:]}')

    def stop(self):
        self.process.terminate()
        try: self.process.wait(20)
        except subprocess.TimeoutExpired: self.process.kill(); self.process.wait()
        self.log.close()

    def ask(self, expression, timeout=60):
        "The value of a Python expression in the kernel of the notebook"
        import ast
        from jupyter_client import BlockingKernelClient
        client = BlockingKernelClient()
        client.load_connection_file(str(max(self.home.rglob('kernel-*.json'), key=os.path.getmtime)))
        client.start_channels()
        try:
            done = client.execute('', user_expressions={'it': f'repr({expression})'}, reply=True, timeout=timeout)
        finally: client.stop_channels()
        it = done['content']['user_expressions']['it']
        if it['status'] != 'ok': raise RuntimeError(f"{it['ename']}: {it['evalue']}")
        return ast.literal_eval(ast.literal_eval(it['data']['text/plain']))


def lab(home, notebook, **env):
    "JupyterLab on a copy of a notebook in a folder of its own"
    shutil.copy(notebook, home)
    server = Server(home, ['jupyter', 'lab', '--no-browser', '--allow-root', '--ip=127.0.0.1', '--port=PORT', '--IdentityProvider.token=',
                           f'--ServerApp.root_dir={home}', '--ServerApp.port_retries=0', '--LabApp.news_url=None',
                           '--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate'], 'api', **env)
    server.page = f'{server.url}lab/tree/{Path(notebook).name}?reset'
    return server


def voila(home, notebook, **env):
    "The same notebook as a plain web page, with the template that asks nothing of other machines"
    shutil.copy(notebook, home)
    words = ['voila', str(Path(home)/Path(notebook).name), '--no-browser', '--port=PORT', '--Voila.ip=127.0.0.1', '--template=fss_nb']
    return Server(home, words, 'favicon.ico', JUPYTER_PATH=str(ROOT/'tools'/'voila'), **env)


@contextlib.contextmanager
def browser(width=1400, height=1000, **more):
    "A page of a headless Chromium: `outside` it asked of other machines, `errors` in it, `sent` messages of widgets to the kernel"
    from playwright.sync_api import sync_playwright
    with sync_playwright() as p:
        b = p.chromium.launch(executable_path=chromium(), args=ARGS)
        page = b.new_page(viewport={'width': width, 'height': height}, **more)
        page.set_default_timeout(1000*PATIENCE)
        page.outside, page.errors, page.sent = [], [], []
        page.on('request', lambda r: _here(r.url) or page.outside.append(r.url))
        page.route(lambda url: not _here(url), lambda route: route.abort())
        page.on('pageerror', lambda e: page.errors.append(str(e)))
        page.on('websocket', lambda ws: ws.on('framesent', lambda f: _is_update(f) and page.sent.append(f)))
        try: yield page
        finally: b.close()


def _here(url):
    return urlparse(url).hostname in ('127.0.0.1', None)


def _is_update(frame):
    data = frame.encode() if isinstance(frame, str) else frame
    return b'comm_msg' in data and b'"update"' in data


def run_all(page):
    """Run > Run All Cells. JupyterLab drops a click before the kernel is ready, and may ask which kernel is wanted:
    so answer what it asks, look for prompts, and click again where there are none"""
    page.wait_for_selector('.jp-Notebook .jp-CodeCell')
    begun = "() => [...document.querySelectorAll('.jp-InputPrompt')].some(e => /\\[[\\d*]+\\]/.test(e.textContent))"
    for _ in range(PATIENCE//5):
        page.wait_for_timeout(700)
        with contextlib.suppress(Exception):
            if page.locator('.jp-Dialog').count(): page.locator('.jp-Dialog .jp-mod-accept').first.click(timeout=2000)
            page.click('li.lm-MenuBar-item >> text=Run', timeout=2000)
            page.click('[data-command="runmenu:run-all"]', timeout=2000)
        with contextlib.suppress(Exception): return page.wait_for_function(begun, timeout=2500)
    raise RuntimeError('JupyterLab would not run the notebook')


def stroke(page, canvas, points, lift=True):
    "Pull the mouse over a canvas; points in fractions of its width and height"
    r = canvas.bounding_box()
    there = [(r['x']+x*r['width'], r['y']+y*r['height']) for x, y in points]
    page.mouse.move(*there[0]); page.mouse.down()
    for p in there[1:]: page.mouse.move(*p, steps=5)
    if lift: page.mouse.up()


def still(page, source, css, *models):
    "Widgets on an empty page with a stand-in for the kernel: `window.M[k]` has `get`, `set`, `sent` of the k-th"
    code = source.replace('export default { render };', '')
    traits = ',\n'.join('{'+', '.join(f'{k}: {_js(v)}' for k, v in m.items())+'}' for m in models)
    page.set_content(f"""<style>{css} body {{margin: 10px;}} .at {{width: 420px; margin-bottom: 12px;}}</style><script type="module">{code}
      const bytes = text => new DataView(Uint8Array.from(atob(text), c => c.charCodeAt(0)).buffer);
      class Model {{
        constructor(traits) {{ this.traits = traits; this.heard = {{}}; this.sent = []; this.said = []; }}
        get(k) {{ return this.traits[k]; }}
        set(k, v) {{ this.traits[k] = v; for (const f of this.heard[`change:${{k}}`] || []) f(); }}
        on(k, f) {{ (this.heard[k] ||= []).push(f); }}
        off(k, f) {{ this.heard[k] = this.heard[k].filter(g => g !== f); }}
        save_changes() {{ this.sent.push(structuredClone(this.traits.strokes)); }}
        send(content, _, buffers) {{ this.said.push([content, (buffers || []).map(b => [...new Uint8Array(b)])]); }}
      }}
      window.M = [{traits}].map(t => new Model(t));
      window.left = M.map(model => {{
        const el = Object.assign(document.createElement('div'), {{ className: 'at' }}); document.body.append(el);
        return render({{ model, el }});
      }});
      window.begun = true;</script>""")
    page.wait_for_function('window.begun')


def _js(v):
    if isinstance(v, bytes): return f'bytes("{base64.b64encode(v).decode()}")'
    if isinstance(v, list) and v and isinstance(v[0], bytes): return f'[{", ".join(map(_js, v))}]'
    return json.dumps(v)
