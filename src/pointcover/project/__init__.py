"""Projects outside this repository: their files, and their upgrade to another version."""
