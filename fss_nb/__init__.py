"""Few-shot segmentation you can read: five papers as notebooks, and the package they export.

    import fss_nb as fss
    m = fss.load('panet-tiny-toy')
    b = fss.benchmark('toy')
    r = fss.evaluate(m, b, fss.protocol('even', b, fold=0, shots=1))

Importing is light: a name is looked up in its module when it is first used.
"""
__version__ = "0.1.0"

from importlib import import_module as _import_module

_HOME = {
    'core': 'Episode Row FssError DataError OptionError ShapeError as_mask mask_kind to_image to_picture',
    'data.episodes': 'benchmark benchmarks episode_loader toy_episode',
    'data.protocol': 'protocol protocols',
    'score.evaluate': 'evaluate',
    'train.recipe': 'recipe recipes find_recipe RECIPES',
    'train.seeds': 'seeder',
    'papers.official': 'load_official',
    'papers.zoo': 'list_models create_model load bundled_models fit',
    'use.segmenter': 'Segmenter',
    'use.canvas': 'Canvas',
    'use.page': 'draw Page',
    'use.demo': 'demo_page',
    'use.export': 'export_onnx export_programs Exported',
}
_WHERE = {name: module for module, names in _HOME.items() for name in names.split()}
__all__ = ['__version__', *_WHERE]


def __getattr__(name):
    if name not in _WHERE:
        raise AttributeError(f"module 'fss_nb' has no attribute '{name}'")
    value = getattr(_import_module(f'fss_nb.{_WHERE[name]}'), name)
    globals()[name] = value
    return value


def __dir__():
    return sorted(__all__)
