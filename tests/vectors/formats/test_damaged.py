"""Whatever a file of labels holds, it is read, or refused in one message."""

import copy
import re
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from pointcover.vectors.features import Annotations
from tests.vectors.formats.labels import read
from tests.vectors.formats.test_formats import POINTS, SHAPES, write

VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 300),
    st.sampled_from([10**30, -(10**30), 2**31, 2**63, 1e308, -1e308, 0.5]),
    st.text(max_size=4),
    st.just([]),
    st.just({}),
    st.lists(st.integers(-2, 300), max_size=5),
    st.just([[[[]]]]),
    st.dictionaries(st.sampled_from(["id", "size", "counts", "points", "x"]), st.integers()),
)
TEXTS = st.one_of(
    st.integers(-5, 5000).map(str),
    st.sampled_from(
        ["", ",", ";", "1,2", "1,2;3", "nan", "-inf", "1e999", "9" * 400, "water", "é"]
    ),
)
BOTH = SHAPES | POINTS
JSON = {name: document for name, document in BOTH.items() if not isinstance(document, str)}
TEXT = {name: document for name, document in BOTH.items() if isinstance(document, str)}


def places(node, path=()):
    """Yield the path of each value of a document, but of few of long lists of numbers."""
    yield path
    pairs = []
    if isinstance(node, dict | list):
        pairs = node.items() if isinstance(node, dict) else enumerate(node[:6])
    for key, value in pairs:
        yield from places(value, (*path, key))


def try_to_read(path):
    """Return whether a file is read; a refusal names it."""
    try:
        return isinstance(read(path), Annotations)
    except ValueError as error:
        if str(path) not in str(error):
            raise
        return False


@settings(max_examples=150)
@given(name=st.sampled_from(list(JSON)), data=st.data())
def test_json_with_other_values_is_read_or_refused(name, data):
    document = copy.deepcopy(JSON[name])
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from(list(places(document))))
        value = copy.deepcopy(data.draw(VALUES))
        if not path:
            document = [value]
            continue
        parent = document
        for key in path[:-1]:
            parent = parent[key]
        parent[path[-1]] = value
    with TemporaryDirectory() as folder:
        try_to_read(write(Path(folder), document))


@settings(max_examples=100)
@given(name=st.sampled_from(list(JSON)), data=st.data())
def test_json_that_lacks_a_member_is_read_or_refused(name, data):
    document = copy.deepcopy(JSON[name])
    path = data.draw(st.sampled_from([path for path in places(document) if path]))
    parent = document
    for key in path[:-1]:
        parent = parent[key]
    del parent[path[-1]]
    with TemporaryDirectory() as folder:
        try_to_read(write(Path(folder), document))


@settings(max_examples=100)
@given(name=st.sampled_from(list(TEXT)), data=st.data())
def test_text_with_other_values_is_read_or_refused(name, data):
    document = TEXT[name]
    found = list(re.finditer(r'(?<=")[^"<>]*(?=")|(?<=[,;\n])[^,;\n<>"]+', document))
    match = data.draw(st.sampled_from(found))
    document = document[: match.start()] + data.draw(TEXTS) + document[match.end() :]
    with TemporaryDirectory() as folder:
        try_to_read(write(Path(folder), document))


@settings(max_examples=60)
@given(name=st.sampled_from(list(BOTH)), fraction=st.floats(0, 1, exclude_max=True))
def test_a_file_cut_short_is_refused(name, fraction):
    with TemporaryDirectory() as folder:
        path = write(Path(folder), BOTH[name])
        whole = path.read_bytes().rstrip()
        path.write_bytes(whole[: int(fraction * len(whole))])
        if path.suffix == ".csv":  # which has no end
            try_to_read(path)
        else:
            assert not try_to_read(path)
