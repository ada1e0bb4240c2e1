"""The study of labels against accuracy: a plan, its experiments, and what they came to."""
