"""A local web page for point labels, whose map follows each click."""
