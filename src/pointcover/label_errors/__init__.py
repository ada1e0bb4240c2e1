"""Label errors: point labels that a cross-validated model doubts."""
