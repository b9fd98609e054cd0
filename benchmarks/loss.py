"""Eq. 4 in tiles beside the matrix of all pairs,
and beside its bare matrix products.
"""

from functools import partial

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.harness import Case, Row, Scale, absolute, in_fresh_process, ratio
from s2l_core.config import seed_for
from s2l_core.losses import contrastive_loss
from s2l_core.pair_sums import TILE
from s2l_paper.figures.plotting import BLUE, GREY, Picture, styled

CHANNELS, TEMPERATURE = 32, 0.1


def plain_loss(z: Tensor, y: Tensor, temperature: float) -> Tensor:
    """Eq. 4 as it is written: all pairs (N, N), each with its target."""
    z = F.normalize(z)
    same = (y[:, None] == y[None, :]).to(z.dtype)
    return F.binary_cross_entropy_with_logits(z @ z.T / temperature, same)


def products(z: Tensor) -> Tensor:
    """One similarity and two gradient products for each pair of tiles of the symmetric half."""
    gradient, memory = torch.zeros_like(z), z.new_empty(TILE * TILE)
    for i in range(0, len(z), TILE):
        a = z[i : i + TILE]
        for j in range(i, len(z), TILE):
            b = z[j : j + TILE]
            tile = torch.mm(a, b.T, out=memory[: len(a) * len(b)].view(len(a), len(b)))
            gradient[i : i + TILE].addmm_(tile, b)
            gradient[j : j + TILE].addmm_(tile.T, a)
    return gradient


def embeddings(count: int) -> tuple[Tensor, Tensor]:
    """2 x `count` embeddings (N, 32), and their classes (N,)."""
    generator = torch.Generator().manual_seed(seed_for("benchmarks", "embeddings"))
    return torch.randn(2 * count, CHANNELS, generator=generator), torch.arange(2 * count) < count


def value_and_gradient(loss, z: Tensor, y: Tensor, **options) -> tuple[Tensor, Tensor]:
    """Forward and backward."""
    z = z.clone().requires_grad_()
    value = loss(z, y, TEMPERATURE, **options)
    value.backward()
    return value.detach(), z.grad


def prepare(loss, count: int) -> Case:
    """One evaluation of 2 x `count` embeddings, after a small one that loads the libraries."""
    value_and_gradient(loss, *embeddings(32))
    return partial(value_and_gradient, loss, *embeddings(count))


def measure(scale: Scale) -> list[Row]:
    """Time at the paper's 6000 regions of each class; then time and memory against their number."""
    count = scale.pick(300, 6000)
    z, y = embeddings(count)
    torch.testing.assert_close(
        value_and_gradient(contrastive_loss, z, y),
        value_and_gradient(plain_loss, z, y),
        rtol=1e-3,
        atol=1e-8,
    )
    ours = partial(value_and_gradient, contrastive_loss, z, y)
    cases = {
        "plain": partial(value_and_gradient, plain_loss, z, y),
        "ours": ours,
        "products": partial(products, z),
    }
    cases |= {"and": partial(ours, target="and"), "or": partial(ours, target="or")}
    cases["balanced"] = partial(ours, reduction="balanced")
    times, size = scale.turns(cases), f"2 x {count}"
    rows = [
        ratio(f"{size}, forward + backward", times["ours"], "plain Eq. 4", times["plain"], ">= 12"),
        ratio(
            f"{size}, forward + backward",
            times["ours"],
            "bare matrix products",
            times["products"],
            "<= 1.7",
        ),
        ratio(f'{size}, target "and"', times["and"], "default", times["ours"], "<= 1.2"),
        ratio(f'{size}, target "or"', times["or"], "default", times["ours"], "<= 1.2"),
        ratio(
            f'{size}, reduction "balanced"', times["balanced"], "default", times["ours"], "<= 1.2"
        ),
    ]
    return rows + growth(
        count, scale.pick([600], [1000, 3000, count, 16384, 32768]), scale.pick([], [1000, 3000])
    )


def growth(count: int, ours: list[int], plain: list[int]) -> list[Row]:
    """Seconds and MiB beyond the embeddings, each number of them in a process of its own."""
    found = {n: in_fresh_process(prepare, contrastive_loss, n) for n in ours}
    beside = {n: in_fresh_process(prepare, plain_loss, n) for n in [*plain, count]}
    rows = []
    if count in found:
        memory = found[count][1], beside[count][1]
        rows += [absolute(f"2 x {count}, extra peak memory", memory[:1], "<= 64", "MiB")]
        rows += [
            ratio(
                f"2 x {count}, extra peak memory", memory[:1], "plain Eq. 4", memory[1:], unit="MiB"
            )
        ]
    for name, measured in {"ours": found, "plain": beside}.items():
        for n, (time, memory) in measured.items():
            rows += [
                absolute(f"growth, {name}, 2 x {n}", [time]),
                absolute(f"growth, {name}, 2 x {n}", [memory], unit="MiB"),
            ]
    if len(ours) > 2:
        *_, half, whole = ours
        each = [found[n][1] / n for n in (whole, half)]
        name = f"memory of an embedding, 2 x {whole} (MiB / 1000)"
        rows.append(ratio(name, [1000 * each[0]], f"2 x {half}", [1000 * each[1]], "<= 1.1", "MiB"))
    return rows


@styled
def draw(rows: pd.DataFrame) -> Picture:
    """Time and memory against the number of embeddings."""
    figure = Picture(figsize=(8, 3), layout="constrained")
    rows = rows[rows.case.str.startswith("growth")]
    for ax, (unit, part) in zip(
        figure.subplots(1, 2), rows.groupby("unit", sort=False), strict=True
    ):
        for name, colour in {"plain": GREY, "ours": BLUE}.items():
            own = part[part.case.str.contains(name)]
            ax.plot(
                2 * own.case.str.split().str[-1].astype(int),
                np.maximum(own.ours, 1e-3),
                "o-",
                color=colour,
                label=name,
            )
        ax.set(
            xscale="log",
            yscale="log",
            xlabel="embeddings N",
            ylabel=f"{'time' if unit == 's' else 'extra memory'} ({unit})",
        )
        counts = sorted({2 * int(case.split()[-1]) for case in part.case})
        ax.set_xticks(counts, [f"{count / 1000:.0f}k" for count in counts])
        ax.minorticks_off()
    figure.axes[0].legend()
    return figure
