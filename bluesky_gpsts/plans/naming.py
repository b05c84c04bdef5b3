"""Classes of the spectra, in the run: what a classifying callback has found becomes events."""

from collections.abc import Generator
from typing import Any

import bluesky.plan_stubs as bps
from bluesky.utils import Msg

from bluesky_gpsts.plans.records import ClassRecord
from bluesky_gpsts.plans.tipwatch import TipWatch

__all__ = ["known_classifier", "record_classes"]


def known_classifier(given: Any, acquisition: str = "") -> Any:
    """Return the `bluesky_gpsts.callbacks.Classify` that an argument of a plan describes.

    Parameters
    ----------
    given : str, object or None
        Name of a model, or a folder with one; or the callback itself.
    acquisition : str
        Name of the acquisition function; "class" needs a classifier.

    Returns
    -------
    object or None
        The callback, and None for None or an empty text.

    Raises
    ------
    ValueError
        If there is no such model, it is not such a callback, or there has to be one.
    """
    if given is None or given == "":
        if acquisition == "class":
            raise ValueError(
                'acquisition "class" goes where the class of a spectrum is uncertain, and there is '
                'no classifier; give one, such as classifier="default"'
            )
        return None
    if isinstance(given, str):
        from bluesky_gpsts.callbacks import Classify
        from bluesky_gpsts.spectra.registry import load_with_card

        loaded, card = load_with_card(given)
        return Classify(loaded, card.id)
    missing = [name for name in ("take", "finish", "metadata") if not hasattr(given, name)]
    if missing:
        raise ValueError(
            f"the classifier, a {type(given).__name__}, has no {', '.join(missing)}; give the name "
            "of a model (gpsts models lists them) or a bluesky_gpsts.callbacks.Classify"
        )
    return given


def record_classes(
    record: ClassRecord,
    classifier: Any,
    optimizer: Any,
    points: list[Any],
    watch: TipWatch | None = None,
) -> Generator[Msg, Any, None]:
    """Write an event of the stream ``classes`` for each spectrum that has been named since.

    Parameters
    ----------
    record : ClassRecord
        Carries the events.
    classifier : object
        The callback.
    optimizer : object
        Told of the classes if it has a method ``inform``.
    points : list
        The ``"_id"`` of each spectrum of the run.
    watch : TipWatch, optional
        Told of the novelty of each.
    """
    inform = getattr(optimizer, "inform", None)
    for found in classifier.take():
        data = found.data()
        if watch is not None:
            watch.named(found.seq_num, found.novelty)
        for name in record.component_names:
            yield from bps.mv(getattr(record, name), data[name])
        yield from bps.create(name="classes")
        yield from bps.read(record)
        yield from bps.save()
        yield from bps.checkpoint()
        if inform is not None and not found.problem and found.seq_num <= len(points):
            inform(points[found.seq_num - 1], found.probabilities, found.novelty)
