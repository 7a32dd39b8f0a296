"""From raw digital numbers to a task's answer, as a model card describes it."""
