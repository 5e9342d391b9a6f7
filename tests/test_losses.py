"""The contrastive losses, compared with a naive oracle: soft targets, a queue, and two processes."""

import math
from pathlib import Path

import pytest
import torch
import torch.multiprocessing
from torch import nn
from torch.nn import functional

from dualgeo_core.model.fusion import ViewEmbeddings
from dualgeo_core.model.gps_encoder import sphere_points
from dualgeo_core.model.losses import AlignmentLoss, clamp_temperatures, gather, soft_targets

WIDTH = 8


def _batch(count: int, seed: int = 0) -> tuple[ViewEmbeddings, torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    image, mask, gps = (functional.normalize(torch.randn(count, WIDTH, generator=random), dim=-1) for _ in range(3))
    degrees = torch.rand(count, 2, generator=random, dtype=torch.float64) * 120 - 60
    return ViewEmbeddings(image, mask), gps, degrees


def _loss(**settings) -> AlignmentLoss:
    return AlignmentLoss(**{"width": WIDTH, "mask_weight": 1.0, "queue": 0, "soft_target_km": 0.0, **settings})


def _scales(value: float = 10.0) -> nn.ParameterDict:
    return nn.ParameterDict({view: nn.Parameter(torch.tensor(math.log(value))) for view in ViewEmbeddings._fields})


def _info_nce(view: torch.Tensor, places: torch.Tensor, own: torch.Tensor, scale: float) -> float:
    """-log of each photo's share of its own place among all, and of each own place's photo: plain loops."""
    total = 0.0
    for i in range(len(view)):
        to_places = [math.exp(scale * float(view[i] @ place)) for place in places]
        to_photos = [math.exp(scale * float(own[i] @ photo)) for photo in view]
        total -= math.log(to_places[i] / sum(to_places)) + math.log(to_photos[i] / sum(to_photos))
    return total / (2 * len(view))


def _cross_entropy(from_bd: torch.Tensor, to_nd: torch.Tensor, targets_bn: torch.Tensor, scale: float = 10.0) -> float:
    """Mean of -log of each one's share among `to_nd`, weighted by `targets_bn`: plain loops."""
    total = 0.0
    for own, weights in zip(from_bd, targets_bn.tolist(), strict=True):
        exponentials = [math.exp(scale * float(own @ other)) for other in to_nd]
        shares = [value / sum(exponentials) for value in exponentials]
        total -= sum(weight * math.log(share) for weight, share in zip(weights, shares, strict=True))
    return total / len(from_bd)


def test_loss_is_symmetric_info_nce_of_both_views() -> None:
    views, gps, degrees = _batch(7)
    losses = _loss(mask_weight=0.3)(views, gps, degrees, _scales())
    image, mask = (_info_nce(view, gps, gps, scale=10.0) for view in (views.image, views.mask))
    assert losses["image_loss"].item() == pytest.approx(image, rel=1e-5)
    assert losses["mask_loss"].item() == pytest.approx(mask, rel=1e-5)
    assert losses["loss"].item() == pytest.approx(image + 0.3 * mask, rel=1e-5)


def test_the_joint_view_has_a_loss_of_its_own() -> None:
    views, gps, degrees = _batch(6)
    joint = _batch(6, seed=1)[0].image
    losses = _loss(mask_weight=0.3)(views._replace(joint=joint), gps, degrees, _scales())
    without = _loss(mask_weight=0.3)(views, gps, degrees, _scales())
    assert losses["loss"].item() - without["loss"].item() == pytest.approx(_info_nce(joint, gps, gps, 10.0), rel=1e-4)


def test_mask_only_is_not_silenced_by_its_weight() -> None:
    views, gps, degrees = _batch(5)
    losses = _loss(mask_weight=0.0)(ViewEmbeddings(None, views.mask), gps, degrees, _scales())
    assert losses["loss"].item() == pytest.approx(_info_nce(views.mask, gps, gps, 10.0), rel=1e-5)


def test_queued_places_are_negatives_of_later_batches() -> None:
    loss, scales = _loss(queue=6), _scales()
    first, second = _batch(4), _batch(4, seed=1)
    without = loss(*first, scales)
    assert without["image_loss"].item() == pytest.approx(_info_nce(first[0].image, first[1], first[1], 10.0), rel=1e-5)
    with_queue = loss(*second, scales)
    places = torch.cat([second[1], first[1]])
    assert with_queue["image_loss"].item() == pytest.approx(
        _info_nce(second[0].image, places, second[1], 10.0), rel=1e-5
    )
    assert torch.equal(loss.queue_gps_qd, torch.cat([second[1], first[1]])[:6])
    loss.eval()(*first, scales)
    assert torch.equal(loss.queue_gps_qd[:4], second[1]), "validation must not fill the queue"


def test_a_photo_met_again_in_the_queue_is_no_negative() -> None:
    loss, scales, (views, gps, degrees) = _loss(queue=100), _scales(), _batch(6)
    alone = loss(views, gps, degrees, scales)["image_loss"].item()
    again = loss(views, gps, degrees, scales)["image_loss"].item()
    assert again == pytest.approx(0.5 * (alone - math.log(0.5) + alone), abs=1e-5)


def test_queued_places_keep_their_coordinates() -> None:
    """A photo of the oldest batch counts as positive its own place in the queue, and no place queued since."""
    loss, scales = _loss(queue=100), _scales()
    batches = [_batch(3, seed=seed) for seed in range(3)]
    for batch in batches:
        loss(*batch, scales)
    views, gps, _ = batches[0]
    found = loss(*batches[0], scales)["image_loss"].item()
    places = torch.cat([gps, batches[2][1], batches[1][1], gps])
    to_places = torch.zeros(3, 12)
    to_places[range(3), range(3)] = to_places[range(3), range(9, 12)] = 0.5
    expected = 0.5 * (_cross_entropy(views.image, places, to_places) + _cross_entropy(gps, views.image, torch.eye(3)))
    assert found == pytest.approx(expected, rel=1e-5)


def test_near_places_are_shared_targets_in_both_directions() -> None:
    views, gps, _ = _batch(4)
    north_km = [0.0, 0.5, 1.5, 400.0]
    degrees = torch.tensor([[10.0 + km / 111.195, 20.0] for km in north_km], dtype=torch.float64)
    weights = torch.tensor([[math.exp(-0.5 * (a - b) ** 2) for b in north_km] for a in north_km])
    targets = weights / weights.sum(dim=1, keepdim=True)
    found = _loss(soft_target_km=1.0)(views, gps, degrees, _scales())["image_loss"].item()
    expected = 0.5 * (_cross_entropy(views.image, gps, targets) + _cross_entropy(gps, views.image, targets))
    assert found == pytest.approx(expected, rel=1e-3)


def test_soft_targets_fall_with_distance() -> None:
    degrees = torch.tensor([[10.0, 20.0], [10.0 + 1 / 111.195, 20.0], [-60.0, 100.0]], dtype=torch.float64)
    points = sphere_points(degrees).float()
    targets = soft_targets(points, points, soft_target_km=1.0)
    near = math.exp(-0.5)
    assert targets[0].tolist() == pytest.approx([1 / (1 + near), near / (1 + near), 0], abs=1e-3)
    assert torch.equal(soft_targets(points, points, soft_target_km=0.0), torch.eye(3))


def test_photos_of_one_square_are_not_each_others_negatives() -> None:
    """With hard targets two views alike at one square cost log 2; with soft ones nothing beyond their entropy."""
    view = torch.eye(WIDTH)[[0, 0]]
    degrees = torch.tensor([[48.8530, 2.3490], [48.8531, 2.3491]], dtype=torch.float64)
    scales = _scales(50.0)
    soft = _loss(soft_target_km=1.0)
    moved = functional.normalize(view + 0.3 * torch.eye(WIDTH)[[1, 2]], dim=-1).requires_grad_()
    soft(ViewEmbeddings(moved, None), view, degrees, scales)["loss"].backward()
    assert moved.grad.abs().max() < 1e-4, "nothing pushes the two apart"


def test_temperatures_stay_within_bounds() -> None:
    scales = nn.ParameterDict({"image": nn.Parameter(torch.tensor(99.0)), "mask": nn.Parameter(torch.tensor(-99.0))})
    clamp_temperatures(scales)
    assert scales["image"].exp().item() == pytest.approx(100, rel=1e-5)
    assert scales["mask"].exp().item() == pytest.approx(1)


def _two_processes(rank: int, folder: str) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    views, gps, degrees = _batch(8)
    own = slice(4 * rank, 4 * rank + 4)
    leaves = [x[own].clone().requires_grad_() for x in (views.image, views.mask, gps)]
    loss, scales = _loss(queue=5, soft_target_km=300.0), _scales()
    total = loss(ViewEmbeddings(leaves[0], leaves[1]), leaves[2], degrees[own], scales)["loss"]
    total.backward()
    result = {
        "loss": total.detach(),
        "gradients": [leaf.grad for leaf in leaves],
        "scale": scales["image"].grad,
        "queue": loss.queue_gps_qd,
        "gathered": gather(leaves[2]).detach(),
    }
    torch.save(result, Path(folder) / f"rank{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_processes_see_each_others_photos_as_negatives(tmp_path: Path) -> None:
    """Averaged over two real processes, loss and gradients are those of one process with all photos."""
    views, gps, degrees = _batch(8)
    leaves = [x.clone().requires_grad_() for x in (views.image, views.mask, gps)]
    loss, scales = _loss(queue=5, soft_target_km=300.0), _scales()
    expected = loss(ViewEmbeddings(leaves[0], leaves[1]), leaves[2], degrees, scales)["loss"]
    expected.backward()
    torch.multiprocessing.spawn(_two_processes, args=(str(tmp_path),), nprocs=2)
    ranks = [torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in range(2)]
    assert torch.stack([r["loss"] for r in ranks]).mean().item() == pytest.approx(expected.item(), rel=1e-5)
    for i, leaf in enumerate(leaves):
        # Data-parallel training divides by the number of processes what the gather summed over them.
        shared = torch.cat([r["gradients"][i] for r in ranks]) / 2
        assert torch.allclose(shared, leaf.grad, atol=1e-6)
    assert (ranks[0]["scale"] + ranks[1]["scale"]).item() / 2 == pytest.approx(scales["image"].grad.item(), rel=1e-4)
    assert all(torch.equal(r["gathered"], gps) and torch.equal(r["queue"], gps[:5]) for r in ranks)
