"""Run configurations: quick, half an hour and full for each job, and how to find them."""
