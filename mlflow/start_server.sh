#!/usr/bin/env bash
# Starts the MLflow tracking server that the training runs and the registry live in.
#
#   mlflow/start_server.sh                         SQLite and artifacts beside this script, on 127.0.0.1:5000
#   MLFLOW_BACKEND_STORE_URI=postgresql+psycopg2://… …   another data base (pip install psycopg2-binary)
#   MLFLOW_ARTIFACTS_DESTINATION=s3://… …          another artifact store. Clients need no credentials, but of S3 they get
#                                                  signed addresses and need a way there. To go through this server:
#                                                  MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD=false, and the same with
#                                                  UPLOAD, in the environment of the clients
#   MLFLOW_HOST=0.0.0.0 MLFLOW_PORT=8080 …         another address (put it behind authentication first)
#   MLFLOW_WORKERS=4 …                             more processes, for more people
#   MLFLOW_BASIC_AUTH=1 …                          ask for user name and password (needs MLFLOW_FLASK_SERVER_SECRET_KEY,
#                                                  MLFLOW_AUTH_ADMIN_PASSWORD and pip install "cloud-assets[auth]")
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# A path relative to the caller's folder must survive the change of folder below.
# In a URI some signs of a path mean something.
store=${here//%/%25}; store=${store//\?/%3F}; store=${store//\#/%23}
python=$(realpath -s "$(command -v "${PYTHON:-python}")")
# Run from elsewhere: beside this folder, `import mlflow` must find the installed package.
cd "$here"
arguments=(
    --backend-store-uri "${MLFLOW_BACKEND_STORE_URI:-sqlite:///$store/mlflow.db}"
    --artifacts-destination "${MLFLOW_ARTIFACTS_DESTINATION:-$here/artifacts}"
    --serve-artifacts
    --host "${MLFLOW_HOST:-127.0.0.1}"
    --port "${MLFLOW_PORT:-5000}"
    # One process without a supervisor: on a busy machine the supervisor of several ends those that answer late.
    --workers "${MLFLOW_WORKERS:-1}"
)
# MLflow's own jobs (evaluation of language models) are not used here, and would take eight processes.
export MLFLOW_SERVER_ENABLE_JOB_EXECUTION="${MLFLOW_SERVER_ENABLE_JOB_EXECUTION:-false}"
if [[ "${MLFLOW_BASIC_AUTH:-0}" == 1 ]]; then
    : "${MLFLOW_FLASK_SERVER_SECRET_KEY:?set it to a long random string: it signs the sessions}"
    arguments+=(--app-name basic-auth)
fi
exec "$python" -m mlflow server "${arguments[@]}"
