"A model as a folder that others understand: the Hub's mixin, the card, and what happens without a connection"
import copy
import json
import pickle
from pathlib import Path

import huggingface_hub
import pytest
import torch
from huggingface_hub import ModelCard, ModelHubMixin
from test_systems import SYSTEMS, make

import fss_nb as fss
from fss_nb.core import DataError, OptionError
from fss_nb.papers.panet import PANet
from fss_nb.papers.system import System
from fss_nb.papers.zoo import model_card
from fss_nb.score.check import noise_episode


def same(a, b):
    ep = noise_episode(1, 1, 1)
    with torch.no_grad(): return torch.equal(a(ep), b(ep))


@pytest.mark.parametrize('name', SYSTEMS)
def test_there_and_back(name, tmp_path):
    m = make(name)
    assert isinstance(m, ModelHubMixin)
    m.save_pretrained(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ['README.md', 'config.json', 'model.safetensors']
    about = json.loads((tmp_path/'config.json').read_text())
    assert (about['system'], about['backbone']) == (name, 'tiny')
    twin = type(m).from_pretrained(tmp_path)
    assert type(twin) is type(m) and twin.cfg == m.cfg and same(twin, m)
    for again in (copy.deepcopy(m), pickle.loads(pickle.dumps(m))): assert same(again, m)


def test_only_of_this_class(tmp_path):
    make('canet').save_pretrained(tmp_path)
    with pytest.raises(OptionError, match='found a model of canet, want one of panet; use fss.load'): PANet.from_pretrained(tmp_path)
    assert System.from_pretrained(tmp_path).name == 'canet'


def test_a_card_says_what_is_known(tmp_path):
    m = fss.load('any-tiny')
    card = ModelCard(model_card(m))
    assert card.data.to_dict() == dict(library_name='fss_nb', license='apache-2.0', pipeline_tag='image-segmentation',
                                       tags=['few-shot-segmentation', 'fss_nb', 'ridge'])
    for k, v in m.card.items():
        if k.startswith('miou'): assert f'{v:.4f}' in card.text
    assert m.card['recipe'] in card.text and m.card['seen'] in card.text and m.card['measured_on'] in card.text
    bare = ModelCard(model_card(make('panet')))
    assert bare.data.license is None and 'None were measured.' in bare.text and 'Not recorded.' in bare.text
    assert 'mIoU' not in bare.text


def test_a_card_written_by_hand_is_kept(tmp_path):
    (tmp_path/'README.md').write_text('mine')
    make('panet').save_pretrained(tmp_path)
    assert (tmp_path/'README.md').read_text() == 'mine'


class StandIn:
    "What the mixin asks of `HfApi`; keeps what it is given"
    asked = []
    def __init__(self, token=None): self.asked.append(('token', token))
    def create_repo(self, repo_id, private=None, exist_ok=False):
        self.asked.append(('create', repo_id, private, exist_ok))
        return huggingface_hub.RepoUrl(f'https://huggingface.co/{repo_id}')
    def upload_folder(self, repo_id, folder_path, **more):
        self.asked.append(('upload', repo_id, {p.name: p.read_bytes() for p in Path(folder_path).iterdir()}))
        return 'done'


def test_push(monkeypatch, tmp_path):
    monkeypatch.setattr('huggingface_hub.hub_mixin.HfApi', StandIn)
    monkeypatch.setattr(StandIn, 'asked', [])
    m = fss.load('panet-tiny-toy')
    assert m.push_to_hub('somebody/panet', token='t', private=True) == 'done'
    (_, token), (_, repo, private, _), (_, where, files) = StandIn.asked
    assert (token, repo, private, where) == ('t', 'somebody/panet', True, 'somebody/panet')
    assert sorted(files) == ['README.md', 'config.json', 'model.safetensors']
    for name, data in files.items(): (tmp_path/name).write_bytes(data)
    assert same(fss.load(tmp_path), m)


def test_a_name_on_the_hub(monkeypatch, tmp_path):
    m, asked = fss.load('panet-tiny-toy'), []
    m.save_pretrained(tmp_path)
    def download(repo, filename, **where):
        asked.append((repo, filename, where.get('revision')))
        return str(tmp_path/filename)
    monkeypatch.setattr('fss_nb.papers.zoo.hf_hub_download', download)
    assert same(fss.load('somebody/panet'), m)
    assert same(PANet.from_pretrained('somebody/panet', revision='v1', alpha=20.), m)
    assert asked == [('somebody/panet', 'model.safetensors', None), ('somebody/panet', 'model.safetensors', 'v1')]


def test_without_a_connection(monkeypatch, tmp_path):
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_OFFLINE', True)
    for ask in (fss.load, PANet.from_pretrained):
        with pytest.raises(DataError) as e: ask('nobody/nothing')
        assert '\n' not in str(e.value) and 'nobody/nothing: found no such folder here and none on the Hub' in str(e.value)
    with pytest.raises(OptionError, match="did you mean 'panet-tiny-toy'"): fss.load('panet-tiny')
    with pytest.raises(DataError, match='check the path'): fss.load('no/such/model.safetensors')
