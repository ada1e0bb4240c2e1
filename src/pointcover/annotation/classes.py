"""Class names in settings, as class ids."""

from pointcover.labels import ClassTable


def class_id(name: str | None, classes: ClassTable, setting: str) -> int:
    """Return the id of the class that a setting names.

    Args:
        name: of the class.
        classes: of the dataset.
        setting: below `annotate` in params.yaml, for the message.

    Raises:
        ValueError: the dataset has no such class.
    """
    if name not in classes.names:
        raise ValueError(
            f"annotate.{setting}: got {name!r}, wanted a class of the dataset: "
            f"{', '.join(classes.names)}"
        )
    return classes.names.index(name)
