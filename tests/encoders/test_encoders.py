"""Extractors: frozen, named, hashed; and the user's own."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from advect import InputError
from advect.encoders import EfficientNetLite0, Pixels, SmallClassifier, Wrapped, extract, own_extractor
from advect.files import read_json, save_tensors
from advect.parts import build, config_of

CLASSIFIERS = ("digits", "emoji", "clothing")


class Tiny(nn.Module):
    """A network of the user's own."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.layer = nn.Linear(3, width)

    def forward(self, x):
        return self.layer(x.mean((2, 3)))


@pytest.mark.parametrize("data", CLASSIFIERS)
def test_a_shipped_classifier_does_what_its_card_says(data):
    import advect.data

    judge = SmallClassifier(data)
    built_in = getattr(advect.data, data.capitalize())()
    batch = built_in.batch("test", torch.arange(built_in.size("test")))
    accuracy = (judge.classify(batch.x1) == batch.cond["label"]).double().mean().item()
    assert accuracy == pytest.approx(judge.accuracy["test"], abs=0.003)
    assert judge(batch.x1[:5]).shape[0] == 5
    torch.testing.assert_close(judge.probabilities(batch.x1[:5]).sum(1), torch.ones(5))


def test_the_digits_judge_is_good_enough_to_judge():
    assert SmallClassifier("digits").accuracy["test"] >= 0.98


def test_weights_are_small():
    from advect.encoders.classifier import WEIGHTS

    for data in CLASSIFIERS:
        assert (WEIGHTS / f"{data}.safetensors").stat().st_size < 500_000
        assert set(read_json(WEIGHTS / f"{data}.json")) >= {"accuracy", "command", "trained_on", "version"}


@pytest.mark.parametrize("make", [lambda: SmallClassifier("digits"), Pixels], ids=["classifier", "pixels"])
def test_an_extractor_is_frozen_named_and_rebuilt(make):
    extractor = make()
    assert not any(p.requires_grad for p in extractor.parameters())
    extractor.train()
    assert not extractor.training
    x = torch.rand(5, 1, 8, 8, requires_grad=True)
    features = extractor(x)
    assert features.shape[0] == 5
    features.square().sum().backward()
    assert x.grad is not None
    again = build(config_of(extractor))
    assert (again.name, again.version, again.hash) == (extractor.name, extractor.version, extractor.hash)


def test_many_images_give_the_features_of_each():
    extractor, x = SmallClassifier("digits"), torch.rand(10, 1, 8, 8)
    together = extract(extractor, x, batch=3)
    assert together.dtype == torch.float64
    torch.testing.assert_close(together[7:8].float(), extractor(x[7:8]), rtol=1e-4, atol=1e-5)
    assert extract(extractor, x.double()).shape == together.shape


def test_refusals():
    with pytest.raises(InputError, match=r"images have shape \(3, 8, 8\), but the digits classifier takes \(1, 8, 8\)"):
        SmallClassifier("digits")(torch.zeros(2, 3, 8, 8))
    with pytest.raises(InputError, match="there are classifiers for digits, emoji and clothing"):
        SmallClassifier("faces")
    with pytest.raises(InputError, match=r"floating \(B, channels, height, width\) in"):
        Pixels()(torch.zeros(2, 1, 8, 8, dtype=torch.uint8))


def test_a_callable_with_a_name():
    extractor = Wrapped(lambda x: x.flatten(1), "mine", size=4, channels=3, mean=(0.5,) * 3, std=(2.0,) * 3)
    out = extractor(torch.full((2, 1, 8, 8), 0.9))
    assert extractor.name == "mine@4px"
    assert extractor.hash == ""
    torch.testing.assert_close(out, torch.full((2, 48), 0.2))
    with pytest.raises(InputError, match=r"the extractor flat returned \(2, 1, 8, 8\), but features have shape"):
        Wrapped(lambda x: x, "flat", channels=1)(torch.zeros(2, 1, 8, 8))
    with pytest.raises(InputError, match="images have 2 channels, but the extractor takes 3 or 1"):
        Wrapped(lambda x: x, "colour")(torch.zeros(2, 2, 8, 8))
    with pytest.raises(InputError, match="name is empty"):
        Wrapped(lambda x: x, "")
    with pytest.raises(TypeError, match="cannot stand in a config"):
        config_of(extractor)


def test_own_class_with_own_weights(tmp_path):
    net = Tiny(5)
    save_tensors(tmp_path / "w.safetensors", net.state_dict())
    path = f"{__name__}.Tiny"
    extractor = own_extractor(path, tmp_path / "w.safetensors", "tiny", {"width": 5}, size=8)
    x = torch.rand(3, 3, 8, 8)
    torch.testing.assert_close(extractor(x), net(x))
    assert len(extractor.hash) == 12
    with pytest.raises(InputError, match="do not fit"):
        own_extractor(path, tmp_path / "w.safetensors", "tiny", {"width": 6})
    with pytest.raises(InputError, match="which cannot be imported"):
        own_extractor("nowhere.Tiny", tmp_path / "w.safetensors", "tiny")
    with pytest.raises(InputError, match=r"which is no torch\.nn\.Module"):
        own_extractor("builtins.dict", tmp_path / "w.safetensors", "tiny")


def test_efficientnet_sees_pictures():
    pytest.importorskip("efficientnet_lite_pytorch")
    from advect.data import Clothing

    extractor = EfficientNetLite0(64)
    assert extractor.name == "effnet-lite0@64px"
    images = Clothing().batch("test", torch.arange(12)).x1
    features = extractor(images)
    assert features.shape == (12, 1280)
    # its published input is (pixel - 127) / 128
    resized = nn.functional.interpolate(images, (64, 64), mode="bicubic", antialias=True)
    published = extractor.net.extract_features((resized * 127.5 + 127.5 - 127) / 128).mean((2, 3))
    torch.testing.assert_close(features, published, rtol=1e-3, atol=1e-3)
    # a mirrored photograph is nearer to itself than to any other
    mirrored = extractor(images.flip(3))
    assert (torch.cdist(mirrored, features).argmin(1) == torch.arange(12)).all()
    with pytest.raises(InputError, match="give a multiple of 32"):
        EfficientNetLite0(70)


def test_changed_weights_are_not_opened(monkeypatch):
    pytest.importorskip("efficientnet_lite_pytorch")
    monkeypatch.setattr("advect.encoders.effnet.SHA256", "0" * 64)
    with pytest.raises(InputError, match="is not the file that advect knows"):
        EfficientNetLite0()
