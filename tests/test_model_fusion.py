"""The dual-view model: what a photo's vector depends on, and saving and loading."""

import json
from pathlib import Path

import pytest
import torch

from dualgeo_core.base.errors import InputError
from dualgeo_core.model.fusion import Architecture, DualViewModel, LabelTokens, new_model
from dualgeo_core.settings import ModelSettings, Representation

VARIANTS: tuple[Representation, ...] = (
    "mask_only",
    "image_only",
    "concatenation",
    "cross_attention",
    "late_fusion",
    "joint",
)


def _model(variant: Representation, **settings) -> DualViewModel:
    small = ModelSettings(**{"width": 32, "heads": 4, "label_grid": 16, "gps_hidden": 32, **settings})
    architecture = Architecture.of(settings=small, variant=variant, encoder_width=24, image_tokens=4, classes=5)
    return new_model(architecture=architecture, gps_weights="random", seed=0).eval()


def _photos(count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    return (
        torch.randn(count, 24, generator=random),
        torch.randn(count, 4, 24, generator=random),
        torch.randint(0, 5, (count, 16, 16), generator=random, dtype=torch.uint8),
    )


def _vectors(model: DualViewModel, photos: tuple[torch.Tensor, ...]) -> torch.Tensor:
    with torch.no_grad():
        return torch.cat([view for view in model(*photos) if view is not None], dim=-1)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float16, 5e-3), (torch.bfloat16, 4e-2)]
)
def test_vector_does_not_depend_on_batch_mates(variant, dtype, tolerance) -> None:
    model = _model(variant).to(dtype)
    pooled, tokens, maps = _photos(9)
    photos = (pooled.to(dtype), tokens.to(dtype), maps)
    together = _vectors(model, photos)
    alone = torch.cat([_vectors(model, tuple(x[i : i + 1] for x in photos)) for i in range(9)])
    strangers = _photos(40, seed=1)
    crowd = tuple(torch.cat([x, y.to(x.dtype)]) for x, y in zip(photos, strangers, strict=True))
    assert torch.allclose(together, alone, atol=tolerance, rtol=0)
    assert torch.allclose(together, _vectors(model, crowd)[:9], atol=tolerance, rtol=0)


@pytest.mark.parametrize("variant", VARIANTS)
def test_each_variant_sees_its_views_and_no_other(variant) -> None:
    model, (pooled, tokens, maps) = _model(variant), _photos(4)
    before = _vectors(model, (pooled, tokens, maps))
    other_image = _vectors(model, (pooled + 1, tokens.flip(-1), maps))
    other_mask = _vectors(model, (pooled, tokens, (maps + 1) % 5))
    assert torch.equal(before, other_image) == (variant == "mask_only")
    assert torch.equal(before, other_mask) == (variant == "image_only")


def test_cross_attention_carries_each_view_into_the_other() -> None:
    model, (pooled, tokens, maps) = _model("cross_attention"), _photos(4)
    before, after = model(pooled, tokens, maps), model(pooled, tokens, (maps + 1) % 5)
    assert not torch.allclose(before.image, after.image)
    before, after = model(pooled, tokens, maps), model(pooled, tokens.flip(-1), maps)
    assert not torch.allclose(before.mask, after.mask)


@pytest.mark.parametrize("variant", ["joint", "late_fusion"])
def test_each_view_keeps_a_vector_that_the_other_view_cannot_change(variant) -> None:
    model, (pooled, tokens, maps) = _model(variant), _photos(4)
    before, other_mask = model(pooled, tokens, maps), model(pooled, tokens, (maps + 1) % 5)
    other_image = model(pooled + 1, tokens.flip(-1), maps)
    assert torch.equal(before.image, other_mask.image)
    assert torch.equal(before.mask, other_image.mask)
    assert not torch.allclose(before.joint, other_mask.joint)
    assert not torch.allclose(before.joint, other_image.joint)


def test_tokens_see_the_other_view_in_joint_and_not_in_late_fusion() -> None:
    """The joint vector of readouts that saw one view each changes less than that of readouts that saw both."""
    image, mask = torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(0)).split(1)
    for variant, sees in (("joint", True), ("late_fusion", False)):
        model = _model(variant)
        inputs = []
        model.joint_head.register_forward_pre_hook(lambda module, given, inputs=inputs: inputs.append(given[0]))
        model._joined(image, mask)
        model._joined(image, mask.flip(-1))
        across_image = slice(32, 64)
        assert torch.equal(inputs[0][:, across_image], inputs[1][:, across_image]) == (not sees)


def test_class_ids_are_names_and_not_levels() -> None:
    """Renaming the classes changes nothing once the embeddings are renamed alike."""
    model, (pooled, tokens, maps) = _model("mask_only"), _photos(4)
    before = _vectors(model, (pooled, tokens, maps))
    new_name = torch.tensor([3, 0, 4, 1, 2])
    with torch.no_grad():
        model.label_tokens.embedding.weight[new_name] = model.label_tokens.embedding.weight.clone()
        model.label_tokens.shares.weight[:, new_name] = model.label_tokens.shares.weight.clone()
    renamed = new_name[maps.long()].to(torch.uint8)
    assert torch.allclose(before, _vectors(model, (pooled, tokens, renamed)), atol=1e-6)


def _label_tokens() -> LabelTokens:
    torch.manual_seed(0)
    return LabelTokens(classes=5, label_grid=32, width=16).requires_grad_(False)


def test_label_tokens_of_the_same_classes_differ_by_their_place() -> None:
    tokens_btd = _label_tokens()(torch.full((1, 32, 32), 3, dtype=torch.uint8))[0, 1:].reshape(4, 4, 16)
    inner = tokens_btd[1:, 1:].flatten(0, 1)  # the first row and column also see the convolution's padding
    assert torch.pdist(inner).min() > 0.01


def test_the_label_readout_tells_where_the_classes_lie() -> None:
    """A block moved by one token changes the readout, though neither class shares nor the set of tokens change."""
    model = _label_tokens()
    model.position_1td.zero_()
    maps = torch.zeros(2, 32, 32, dtype=torch.uint8)
    maps[0, 8:16, 8:16] = maps[1, 8:16, 16:24] = 1
    first, second = model(maps)
    assert torch.allclose(first[1:].mean(dim=0), second[1:].mean(dim=0), atol=1e-6)
    assert (first[0] - second[0]).norm() > 0.01


def test_saved_model_comes_back_the_same(tmp_path: Path) -> None:
    model, photos = _model("cross_attention"), _photos(3)
    model.save_pretrained(tmp_path / "model")
    again = DualViewModel.from_pretrained(tmp_path / "model")
    assert again.architecture == model.architecture
    assert torch.equal(_vectors(model, photos), _vectors(again, photos))


def test_weights_of_another_config_are_refused(tmp_path: Path) -> None:
    _model("cross_attention").save_pretrained(tmp_path / "model")
    config = tmp_path / "model" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"width": 64}))
    with pytest.raises(InputError, match=r"model\.safetensors cannot be read"):
        DualViewModel.from_pretrained(tmp_path / "model")


def test_the_encoder_has_nothing_to_train() -> None:
    with pytest.raises(InputError, match="nothing to train"):
        _model("encoder")
