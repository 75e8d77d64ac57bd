"""Lines to change in the user's script that take more than one argument to say.

They give the batches that were verified: in the same order, and of the same structure.
"""

from ..schema.fix import Structure

_LOADER = "# loader: the DataLoader of your training"
_TAKEN = {
    Structure.TENSOR: "whole[rows]",
    Structure.TUPLE: "type(whole)(column[rows] for column in whole)",
    Structure.DICT: "{key: column[rows] for key, column in whole.items()}",
}
_TAKEN_ANYHOW = "torch.utils._pytree.tree_map(lambda column: column[rows], whole)"


def in_memory(structure: Structure | None) -> tuple[str, ...]:
    """All samples decoded once.

    Args:
        structure: of a batch; None where it is not known.
    """
    taken = _TAKEN_ANYHOW if structure is None else _TAKEN.get(structure, _TAKEN_ANYHOW)
    return (
        _LOADER,
        "whole = loader.collate_fn([loader.dataset[i] for i in range(len(loader.dataset))])",
        "class InMemory(torch.utils.data.Dataset):",
        "    def __getitem__(self, rows):",
        f"        return {taken}",
        "loader = torch.utils.data.DataLoader(",
        "    InMemory(), batch_size=None, sampler=loader.batch_sampler,",
        "    collate_fn=lambda batch: batch, pin_memory=loader.pin_memory,",
        "    generator=loader.generator,",
        ")",
    )


def batched_fetch() -> tuple[str, ...]:
    """A dataset asked for a whole batch at once."""
    return (
        _LOADER,
        "loader = torch.utils.data.DataLoader(",
        "    loader.dataset, batch_size=None, sampler=loader.batch_sampler,",
        "    num_workers=loader.num_workers, prefetch_factor=loader.prefetch_factor,",
        "    persistent_workers=loader.persistent_workers, pin_memory=loader.pin_memory,",
        "    multiprocessing_context=loader.multiprocessing_context, timeout=loader.timeout,",
        "    worker_init_fn=loader.worker_init_fn, generator=loader.generator,",
        ")",
    )
