from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.rd.macs import count_macs
from wsicomp.models.hyperprior import FactorisedDensity, Gdn, Hyperprior, gaussian, transform
from wsicomp.training.hyperprior import rate_distortion

pytestmark = pytest.mark.usefixtures("one_torch_thread")


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("means", [False, True])
@pytest.mark.parametrize("side", [64, 112])
def test_shapes_and_a_rate_for_every_picture(means: bool, side: int) -> None:
    model = Hyperprior(means=means, n=8, m=12).eval()
    latents = model.analyse(torch.rand(2, 3, side, side))
    assert latents.residuals.shape == (2, 12, side // 16, side // 16)
    assert latents.z_hat.shape == (2, 8, -(-side // 64), -(-side // 64))
    assert latents.bits.shape == (2,)
    assert (latents.bits > 0).all()
    assert model.synthesise(latents).shape == (2, 3, side, side)


@pytest.mark.parametrize("means", [False, True])
def test_what_is_transmitted_is_whole_numbers_once_trained(means: bool) -> None:
    latents = Hyperprior(means=means, n=8, m=12).eval().analyse(5 * torch.rand(1, 3, 64, 64))
    assert torch.equal(latents.z_hat, latents.z_hat.round())
    assert torch.equal(latents.residuals, latents.residuals.round())


@pytest.mark.parametrize("means", [False, True])
def test_rate_goes_down_where_nothing_else_counts_and_error_where_it_does(means: bool) -> None:
    for lmbda, measured in ((0.0, 1), (0.5, 2)):
        torch.manual_seed(0)
        model = Hyperprior(means=means, n=8, m=12)
        x = torch.rand(1, 3, 1, 1).expand(2, 3, 64, 64).contiguous()
        optimizer = torch.optim.Adam(model.parameters(), 5e-3)
        values = []
        for _ in range(60):
            found = rate_distortion(model, x, lmbda)
            optimizer.zero_grad()
            found[0].backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            values.append(found[measured].item())
        assert np.mean(values[-5:]) < 0.7 * np.mean(values[:3])


def test_training_computes_in_halves_and_measuring_does_not() -> None:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3))
    x = torch.rand(2, 3, 16, 16)
    exact, halved = transform(layers, x, half=False), transform(layers, x, half=True)
    torch.testing.assert_close(exact, layers(x), rtol=0, atol=0)
    assert halved.dtype == torch.float32
    assert 0 < (halved - exact).abs().max() < 0.02 * exact.abs().max()


def test_probabilities_of_all_whole_numbers_sum_to_one() -> None:
    values = torch.arange(-400.0, 401.0).reshape(1, 1, 1, -1)
    for probabilities in (
        FactorisedDensity(3)(values.expand(1, 3, 1, -1)),
        gaussian(values, torch.full_like(values, 4.0)),
    ):
        assert (probabilities >= 0).all()
        assert torch.allclose(probabilities.sum(dim=3), torch.ones(1), atol=1e-3)


def test_inverse_gdn_undoes_gdn_where_the_norms_agree() -> None:
    gdn = Gdn(2)
    x = torch.tensor([3.0, -1.0]).reshape(1, 2, 1, 1)
    expected = x / (1 + 0.1 * x.square()).sqrt()
    assert torch.allclose(gdn(x), expected, atol=1e-4)
    assert torch.allclose(Gdn(2, inverse=True)(x), x * (1 + 0.1 * x.square()).sqrt(), atol=1e-4)


def test_the_decoder_of_the_papers_size_costs_what_it_should() -> None:
    model = Hyperprior(means=False).eval()
    with torch.inference_mode(), count_macs() as count:
        model.g_s(torch.zeros(1, 192, 4, 4))
    n, m = 128, 192
    convolutions = 25 * (m * n / 16**2 + n * n / 8**2 + n * n / 4**2 + n * 3 / 2**2)
    divisions = n * n * (1 / 8**2 + 1 / 4**2 + 1 / 2**2)
    assert count.macs / 64**2 == pytest.approx(convolutions + divisions)
