"""Make the environment for `make`, or check the one that is there.

    python3 tools/environment.py FOLDER

A folder that does not exist becomes a virtual environment with the package and everything its tests need. An environment that exists
already is used as it is; only where fss_nb is not installed in it, fss_nb and what is missing are installed. The one that this script
made itself is brought up to date when the requirements in settings.ini change.
"""
from __future__ import print_function

import configparser
import hashlib
import os
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
EXTRAS = 'dev,weak'
ASK = 'import sys; from importlib import metadata as m; print(".".join(map(str, sys.version_info[:3]))); m.version("fss_nb")'


def settings():
    ini = configparser.ConfigParser(delimiters=['='])
    ini.read(os.path.join(ROOT, 'settings.ini'))
    cfg = ini['DEFAULT']
    wants = '\n'.join(k+'='+cfg[k] for k in sorted(cfg) if k.endswith('requirements') or k == 'console_scripts')
    return cfg['min_python'], hashlib.sha256(wants.encode()).hexdigest()


def numbers(version):
    return [int(v) for v in version.split('.')[:2]]


def refuse_old(version, least, where):
    if numbers(version) < numbers(least):
        sys.exit('fss_nb needs Python %s or newer, found %s (%s); name a newer one: make PYTHON=python3.12 ...' % (least, version, where))


def make(folder):
    made = subprocess.call([sys.executable, '-m', 'venv', folder])
    if made:
        shutil.rmtree(folder, ignore_errors=True)
        sys.exit('no virtual environment could be made in %s; on Debian and Ubuntu install python3-venv first' % folder)


def main(folder):
    least, wants = settings()
    python, stamp = os.path.join(folder, 'bin', 'python'), os.path.join(folder, '.fss_nb')
    if not os.path.exists(python):
        if os.path.isdir(folder) and os.listdir(folder):
            sys.exit('%s is a folder, but not a virtual environment (it has no bin/python); name another with VENV=' % folder)
        refuse_old('.'.join(map(str, sys.version_info[:3])), least, sys.executable)
        print('making the environment %s; torch is large, this takes some minutes' % folder)
        make(folder)
        open(stamp, 'w').close()                              # ours, not yet filled
    env = {k: v for k, v in os.environ.items() if k != 'PYTHONPATH'}
    asked = subprocess.Popen([python, '-c', ASK], cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    version = asked.communicate()[0].decode().strip()
    refuse_old(version, least, python)
    ours = os.path.exists(stamp)
    if asked.returncode == 0 and not (ours and open(stamp).read() != wants): return
    done = subprocess.call([python, '-m', 'pip', 'install', '--disable-pip-version-check', '-e', '%s[%s]' % (ROOT, EXTRAS)], env=env)
    if done: sys.exit('the installation into %s failed, see above; run make again to go on' % folder)
    if ours:
        with open(stamp, 'w') as f: f.write(wants)


if __name__ == '__main__':
    main(os.path.abspath(sys.argv[1]))
