"""Write the documents of one run to Tiled, as many at a time as have come in."""

from typing import Any

import numpy as np

# One request per array and flush, whatever its size; this bounds memory, not speed.
BATCH = 500


class RunWriter:
    """TiledWriter for one run whose batches follow the stream of documents.

    Writing one event costs a request per array (some 50 ms each). Events that have piled up go
    together, so that a reader never lags by more than two rounds of requests.

    Parameters
    ----------
    client : tiled.client.container.Container
        Container of runs.
    """

    def __init__(self, client: Any) -> None:
        from bluesky_tiled_plugins.writing.tiled_writer import RunNormalizer, TiledWriter

        sinks: list[Any] = []

        class Normalizer(RunNormalizer):
            """The usual normalizer; it tells who writes behind it."""

            def subscribe(self, func: Any, name: str = "all") -> Any:
                """Note the writer."""
                _tell_axes_apart(func)
                sinks.append(func)
                return super().subscribe(func, name)

        self._sinks = sinks
        # max_array_size=0: short arrays would come back from a table as text.
        # batch_size=1: should the batch size of a sink lose its effect with a later release,
        # every event is written alone: slower, and as right as before.
        self._writer = TiledWriter(client, normalizer=Normalizer, batch_size=1, max_array_size=0)

    def __call__(self, name: str, doc: dict[str, Any], *, more: bool) -> None:
        """Write a document.

        Parameters
        ----------
        name : str
            Kind of the document.
        doc : dict
            The document.
        more : bool
            Whether another event of the same stream follows at once: then this one may wait
            for it.
        """
        for sink in self._sinks:
            sink._batch_size = BATCH if more else 1
        if name == "event":
            # Arrays of different lengths can be padded in one batch only if they are lists.
            data = {
                key: value.tolist() if isinstance(value, np.ndarray) and value.ndim == 1 else value
                for key, value in doc["data"].items()
            }
            doc = {**doc, "data": data}
        self._writer(name, doc)


def _tell_axes_apart(sink: Any) -> None:
    """Let no array have two axes of one name, which xarray warns of at each reading.

    The writer calls axes of one size by one name, those of a square image or matrix, too.
    """
    usual = getattr(sink, "_internal_dims", None)
    if usual is None:
        # A later release that names its axes elsewhere: xarray may warn, and all else is as before.
        return

    def apart(stream: str, shape: tuple[int | None, ...]) -> tuple[str, ...]:
        names = list(usual(stream, shape))
        for axis in range(len(names) - 1, 0, -1):
            if before := names[:axis].count(names[axis]):
                names[axis] = f"{names[axis]}_{before + 1}"
        return tuple(names)

    sink._internal_dims = apart
