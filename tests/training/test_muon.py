from __future__ import annotations

import torch
from torch import nn

from training.muon import Muon, is_matrix


def test_a_step_moves_all_directions_of_a_matrix_alike() -> None:
    generator = torch.Generator().manual_seed(0)
    for shape in ((32, 16), (16, 32), (24, 4, 3, 3)):
        matrix = nn.Parameter(torch.zeros(shape))
        gradient = torch.randn(shape, generator=generator)
        gradient[0] *= 30
        matrix.grad = gradient
        Muon([matrix], lr=0.01).step()
        flat = matrix.detach().flatten(1)
        sizes = torch.linalg.svdvals(flat) / (0.01 * 0.2 * max(flat.shape) ** 0.5)
        assert bool(((sizes > 0.6) & (sizes < 1.3)).all()), sizes
        assert float((flat * gradient.flatten(1)).sum()) < 0


def test_it_finds_the_least_of_a_bowl() -> None:
    wanted = torch.randn(16, 16, generator=torch.Generator().manual_seed(1))
    matrix = nn.Parameter(torch.zeros(16, 16))
    optimiser = Muon([matrix], lr=0.1)
    for step in range(200):
        optimiser.param_groups[0]["lr"] = 0.1 * (1 - step / 200)
        optimiser.zero_grad()
        (matrix - wanted).square().sum().backward()
        optimiser.step()
    torch.testing.assert_close(matrix.detach(), wanted, atol=0.05, rtol=0.0)


def test_weights_decay_and_those_without_gradient_stay() -> None:
    decayed, alone = (nn.Parameter(torch.ones(16, 16)) for _ in range(2))
    decayed.grad = torch.zeros(16, 16)
    Muon([decayed, alone], lr=0.1, weight_decay=0.5).step()
    torch.testing.assert_close(decayed.detach(), torch.full((16, 16), 0.95))
    torch.testing.assert_close(alone.detach(), torch.ones(16, 16))


def test_thin_matrices_and_vectors_are_left_to_adamw() -> None:
    assert is_matrix(torch.zeros(16, 16))
    assert is_matrix(torch.zeros(24, 2, 3, 3))
    assert not is_matrix(torch.zeros(128, 1, 9))
    assert not is_matrix(torch.zeros(128))
