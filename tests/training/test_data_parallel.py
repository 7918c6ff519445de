"""Two plain torch DDP workers train the compact parameters that one process trains."""

import pickle
import socket

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from families import batch_of, make_model, neurons_of
from torch import nn

from sea_ray.training.compact import compact_neurons
from sea_ray.training.footprint import CountedReductions

STEPS = 4


class Loss(nn.Module):
    """Sum of the token losses, so that halves of a batch add up."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, batch):
        logits = self.model(input_ids=batch, use_cache=False).logits[:, :-1]
        return nn.functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten(), reduction="sum")


def trained_changes(rank, world_size, wrap):
    """Return name -> trained change, and the bytes handed to reductions in the first step."""
    model, counted = make_model(torch.float64), CountedReductions()
    with compact_neurons(model, neurons_of()) as compact:
        loss = wrap(Loss(model))
        optimiser = torch.optim.AdamW(compact.parameters.values(), lr=1e-2, weight_decay=0.1)
        for step in range(STEPS):
            batch = batch_of(step)
            part = len(batch) // world_size
            value = loss(batch[rank * part:(rank + 1) * part]) * world_size / batch.numel()  # DDP takes the mean
            if step == 0:
                with counted:
                    value.backward()
            else:
                value.backward()
            optimiser.step()
            optimiser.zero_grad()
        return {name: p.detach().numpy().copy() for name, p in compact.parameters.items()}, counted.bytes


def rank_main(rank, port, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    found = trained_changes(rank, 2, nn.parallel.DistributedDataParallel)
    (folder / f"{rank}.pickle").write_bytes(pickle.dumps(found))
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_ddp_workers_equal_one_process_and_hand_over_the_compact_gradients_alone(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mp.spawn(rank_main, args=(port, tmp_path), nprocs=2)
    alone, none = trained_changes(0, 1, lambda module: module)
    assert none == 0
    values = sum(change.size for change in alone.values())
    for rank in range(2):
        changes, handed_bytes = pickle.loads((tmp_path / f"{rank}.pickle").read_bytes())
        assert handed_bytes == 8 * values
        assert changes.keys() == alone.keys()
        for name, change in changes.items():
            assert abs(change - alone[name]).max() < 1e-10, name
            assert abs(change).max() > 1e-3, name
