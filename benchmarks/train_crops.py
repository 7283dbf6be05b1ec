"""Trains a small 3-D network in PyTorch on random crops of two Zarr arrays: an image and its mask.

An example of `gpuzarr.Loader` that is checked: it ends with an error unless the network has learned
from the crops, which it cannot where image and mask are not cut at the same places. It prints each
epoch's mean loss, and how long the loop waited for data. Needs PyTorch, and the checkout on
PYTHONPATH: `PYTHONPATH=. python benchmarks/train_crops.py`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
import zstandard
from torch import nn

import gpuzarr
from tests.arrays import encoded, sharded_store

SIDE = 128
BATCH = 8
ZSTD = {"name": "zstd", "configuration": {"level": 3, "checksum": False}}
LEARNED = 0.6
"""The last epoch's mean loss over the first's, at most. Guessing stays near 0.62."""


def write_data(folder: Path) -> None:
    """A group of two sharded arrays: a noisy image, and a mask of what is bright in it."""
    random = np.random.default_rng(0)
    squares = np.fft.fftfreq(SIDE) ** 2
    smoothing = np.exp(-300 * (squares[:, None, None] + squares[:, None] + squares))
    clean = np.fft.ifftn(np.fft.fftn(random.standard_normal((SIDE,) * 3)) * smoothing).real
    clean /= clean.std()
    image = 3000 + 300 * clean + 450 * random.standard_normal((SIDE,) * 3)
    mask = clean > np.quantile(clean, 0.7)
    image_store, mask_store = (
        sharded_store(
            values,
            (shard,) * 3,
            (chunk,) * 3,
            encode=zstandard.compress,
            inner_codecs=("bytes", ZSTD),
        )
        for values, shard, chunk in ((image.astype("u2"), 64, 16), (mask.astype("u1"), 128, 32))
    )
    documents = {f"image/{key}": value for key, value in image_store.items()}
    documents |= {f"mask/{key}": value for key, value in mask_store.items()}
    documents["zarr.json"] = encoded({"zarr_format": 3, "node_type": "group"})
    for key, value in documents.items():
        path = folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(value)


def train(folder: Path, *, epochs: int, steps: int, side: int) -> list[list[float]]:
    """Train on crops of that side; the loss of every step of every epoch."""
    group = gpuzarr.open_group(folder)
    coarse = group["image"][::4, ::4, ::4]
    mean, std = float(coarse.mean()), float(coarse.std())
    loader = gpuzarr.Loader(
        group,
        crop=(side, side, side),
        batch_size=BATCH,
        windows="random",
        samples_per_epoch=BATCH * steps,
        dtype={"image": "float32"},
        scale={"image": 1 / std},
        offset={"image": -mean / std},
        seed=0,
    )

    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv3d(1, 8, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv3d(8, 16, 3, padding=1),
        nn.ReLU(),
        nn.ConvTranspose3d(16, 1, 4, stride=2, padding=1),
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    loss_of = nn.BCEWithLogitsLoss()

    losses: list[list[float]] = []
    for _ in range(epochs):
        losses.append([])
        for batch in loader.torch():
            image = batch["image"].unsqueeze(1)  # the batch's own memory
            mask = batch["mask"].unsqueeze(1)
            optimizer.zero_grad()
            loss = loss_of(model(image), mask.float())
            loss.backward()
            optimizer.step()
            losses[-1].append(loss.item())
        print(f"loss {fmean(losses[-1]):.3f}, {loader.progress}")
    return losses


def plot(losses: list[list[float]], file: Path) -> None:
    """Draw the loss of each step, and each epoch's mean."""
    import matplotlib as mpl  # noqa: PLC0415  only a picture needs it
    from matplotlib.figure import Figure  # noqa: PLC0415

    mpl.rcParams["svg.hashsalt"] = "gpuzarr"
    figure = Figure(figsize=(6, 3), layout="constrained")
    axes = figure.subplots()
    steps = [loss for epoch in losses for loss in epoch]
    edges = np.cumsum([0, *map(len, losses)]) + 0.5
    axes.plot(np.arange(len(steps)) + 1, steps, color="#8fb0d0", linewidth=1, label="each batch")
    axes.stairs([*map(fmean, losses)], edges, baseline=None, color="#123f6d", linewidth=2)
    axes.plot([], color="#123f6d", linewidth=2, label="mean of the epoch")
    axes.set_xlabel(f"training steps (batches of {BATCH} crops)")
    axes.set_ylabel("cross-entropy (nats per voxel)")
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(bottom=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else None)


def main() -> None:
    """Make the data, train, and check."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer steps, smaller crops")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="keep the data, or use them")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the losses (matplotlib)")
    options = parser.parse_args()

    torch.set_num_threads(1)  # the other cores decode
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.data or Path(temporary)
        if not (folder / "zarr.json").exists():
            write_data(folder)
        if options.quick:
            losses = train(folder, epochs=3, steps=20, side=24)
        else:
            losses = train(folder, epochs=6, steps=25, side=32)
    if options.plot:
        plot(losses, options.plot)
    first, last = fmean(losses[0]), fmean(losses[-1])
    if not last <= LEARNED * first:
        sys.exit(f"it has not learned: the loss went from {first:.3f} to {last:.3f}")
    print(f"learned: the loss went from {first:.3f} to {last:.3f}")


if __name__ == "__main__":
    main()
