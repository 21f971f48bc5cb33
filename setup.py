"All metadata lives in settings.ini; edit it there, not here."
from configparser import ConfigParser
from pathlib import Path
import shlex
from setuptools import find_namespace_packages, setup

ini = ConfigParser(delimiters=['='])
ini.read('settings.ini', encoding='utf-8')
cfg = ini['DEFAULT']
words = lambda key: shlex.split(cfg.get(key, ''))
lib = cfg['lib_path']
extras = {k.removesuffix('_requirements'): words(k) for k in cfg if k.endswith('_requirements')}

setup(
    name=cfg['lib_name'], version=cfg['version'], description=cfg['description'],
    author=cfg['author'], author_email=cfg['author_email'], keywords=cfg['keywords'].split(),
    url=cfg['git_url'], license='Apache-2.0', python_requires=f">={cfg['min_python']}",
    long_description=Path('README.md').read_text(encoding='utf-8'), long_description_content_type='text/markdown',
    packages=find_namespace_packages(include=[lib, f'{lib}.*'], exclude=['*__pycache__*']),
    package_data={lib: words('package_data')}, include_package_data=True,
    install_requires=words('requirements'), extras_require=extras,
    entry_points={'console_scripts': words('console_scripts'), 'nbdev': [f'{lib}={lib}._modidx:d']},
    zip_safe=False,
)
