"""`sea-ray packs`: a run's language packs, what each is worth, and how to apply them."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from sea_ray.launch.console import print_json, show_rows
from sea_ray.launch.reading import named_run, packs_of
from sea_ray.part_tables import pack_rows


def packs(arguments: Sequence[str], console: Console, *, as_json: bool = False) -> int:
    """List the packs of a run as soon as they are trained, and return the exit code.

    Args:
        arguments: run=NAME and store.url=URL.
        console: where a person looks.
        as_json: print the list for machines, too.

    Raises:
        ConfigError: no such run, or it has no packs yet.
        SeaRayError: they are no longer in the store.
    """
    store, name, _ = named_run(arguments)
    found = packs_of(store, name)
    rows = pack_rows(found.packs)
    show_rows([{column: value for column, value in row.items() if column != "folder"} for row in rows], console)
    console.print(f"base        {found.base.folder}\npacks       {found.packs.folder / 'packs'}")
    console.print("gain        share by which the pack alone lowers the bits per byte of validation text; one seed, no interval")
    first = rows[0]["language"]
    run = " ".join(arguments)
    console.print(f"serve       sea-ray serve {run} serving.with_base=true   (ask for base:{first})\n"
                  f"give away   sea-ray export {run} packs=[{first}] to=FOLDER   (with a card, and how to lay it on the base)\n"
                  f'apply       LanguagePack.load(Path("{rows[0]["folder"]}")).apply(model)   (sea_ray.neurons.pack)',
                  markup=False)
    if as_json:
        print_json({"run": name, "base": str(found.base.folder), "packs": rows})
    return 0
