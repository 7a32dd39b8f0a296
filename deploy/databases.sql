-- Beside the data base `dagster`, which the server makes by itself: runs and models of MLflow, trials of studies.
CREATE DATABASE mlflow;
CREATE DATABASE optuna;
