"""YAML of settings is read as it is meant, or refused."""

import pytest

from pointcover.yaml_files import read_yaml


def expand(levels):
    """Return YAML whose aliases stand for 9 to the power of levels values."""
    lines = ["k0: &k0 [x, x]"]
    lines += [f"k{n + 1}: &k{n + 1} [{', '.join([f'*k{n}'] * 9)}]" for n in range(levels)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("seed: 1\npoints: 2\nseed: 3", r"the key 'seed' is given twice, in line 1 too.* \(line 3"),
        ("train: {lr: 1, lr: 1}", "the key 'lr' is given twice"),
        (expand(12), "more than 200000 values, with aliases"),
        ("a: &a [*a]", "a value holds an alias of itself"),
        ("a: " + "[" * 100_000, "nested more than 50 deep"),
        ("- " * 100_000, "nested more than 50 deep"),
        ("day: 2024-13-01", "month must be in 1..12"),
        ("a: " + "x" * (5 << 20), "has 5242883 bytes, wanted settings of at most 4194304"),
    ],
)
def test_yaml_that_says_two_things_or_grows_is_refused(tmp_path, text, wanted):
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=wanted) as caught:
        read_yaml(path)
    assert str(path) in str(caught.value)


def test_aliases_and_merges_of_yaml_are_read(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text("a: &a {b: 1, c: 2}\nd: {<<: *a, b: 3}\ne: *a\n")
    whole = {"b": 1, "c": 2}
    assert read_yaml(path) == {"a": whole, "d": whole | {"b": 3}, "e": whole}
